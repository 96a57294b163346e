"""What `standings audit` does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import typer
from rich.console import Console

from bootstrap.audit_copies import open_archive, walk_files
from bootstrap.errors import NotConfigured
from bootstrap.settings import Settings, SettingsInvalid
from cli.operating import address_of
from cli.tables import audit_table
from core.errors import StandingsError
from core.verify_audit import Chain, compare, walk_archive
from server.admin_client import AuditQuestion, AuditRow, connect

_PAGE_SIZE_MAX: Final = 1000


class NotVerified(Exception):
    """There is nothing to verify, or it cannot be read."""


async def show_events(
    address: str | None, question: AuditQuestion, *, limit: int, json_lines: bool
) -> None:
    """Prints events, newest first, and where they are from if not from PostgreSQL. Raises
    AdminCallFailed.
    """
    rows: list[AuditRow] = []
    token, from_file = "", False
    async with connect(address_of(address), Settings.load().client) as client:
        while len(rows) < limit:
            page = await client.audit_events(
                question, page_size=min(_PAGE_SIZE_MAX, limit - len(rows)), page_token=token
            )
            rows += page.rows
            from_file |= page.from_file
            token = page.next_page_token
            if not token:
                break
    if json_lines:
        for row in rows:
            typer.echo(json.dumps(asdict(row), default=str))
    else:
        Console().print(audit_table(rows))
    if from_file:
        typer.echo("PostgreSQL is away: these are the events of one machine", err=True)


async def verify_audit(files: Sequence[Path], *, database: bool) -> bool:
    """Walks files, PostgreSQL's copy, or both, and tells of each chain; whether all of them hold.
    Raises NotVerified.
    """
    try:
        settings = Settings.load()
        given = files or [settings.audit_directory]
        ours = walk_files(given)
        theirs: Mapping[str, Chain] = {}
        if database:
            async with open_archive(settings) as archive:
                theirs = await walk_archive(archive)
    except (SettingsInvalid, NotConfigured, StandingsError) as error:
        raise NotVerified(str(error)) from error
    except OSError as error:
        raise NotVerified(f"{error.strerror}: {error.filename}") from error
    if not ours and not theirs:
        where = " and ".join([*map(str, given), *(["the database"] if database else [])])
        raise NotVerified(f"there is no audit in {where}")
    _tell("files", ours.values())
    _tell("database", theirs.values())
    differences = list(compare(ours, theirs))
    for difference in differences:
        typer.echo(str(difference), err=True)
    return not differences and all(chain.whole for chain in (*ours.values(), *theirs.values()))


def _tell(place: str, chains: Iterable[Chain]) -> None:
    for chain in chains:
        if chain.torn is not None:
            typer.echo(str(chain.torn))
        if chain.broken is not None:
            typer.echo(str(chain.broken), err=True)
        if chain.last:
            typer.echo(f"{place}: {_about(chain)}")


def _about(chain: Chain) -> str:
    state = "whole" if chain.whole else "whole as far as here"
    text = f"chain {chain.name}, lines {chain.first:,} to {chain.last:,}, {state}"
    if chain.open_actions:
        text += f"; what became of {len(chain.open_actions):,} actions is not known"
    return text
