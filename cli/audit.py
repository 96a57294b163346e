"""`standings audit`: who did what, and whether that is still what was recorded."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer

audit = typer.Typer(
    help="Who did what, and whether that is still what was recorded.", no_args_is_help=True
)

_TIME_FORMATS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


@audit.command("list")
def list_(  # noqa: PLR0913  # options
    *,
    actor: str = typer.Option("", help="This actor alone."),
    method: str = typer.Option("", help="This method alone, such as HideUser."),
    target: str = typer.Option("", help="This target alone, such as user/42 or board/arena."),
    since: Annotated[
        datetime | None, typer.Option(formats=_TIME_FORMATS, help="From this time on, in UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_TIME_FORMATS, help="Before this time, in UTC.")
    ] = None,
    limit: int = typer.Option(50, min=1, max=100_000, help="At most so many, the newest."),
    json_lines: bool = typer.Option(False, "--json", help="One JSON object a line."),
    address: str | None = typer.Option(
        None, help="The admin listener, host:port; else that of STANDINGS_SERVER_ADMIN_ADDRESS."
    ),
) -> None:
    """Lists what was done, the newest first."""
    import asyncio

    from cli.auditing import show_events
    from cli.operating import told_of_server
    from server.admin_client import AuditQuestion

    question = AuditQuestion(actor, method, target, since, until)
    with told_of_server():
        asyncio.run(show_events(address, question, limit=limit, json_lines=json_lines))


@audit.command("verify")
def verify(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Files of the audit, or folders of them; else those of this machine."),
    ] = None,
    *,
    database: bool = typer.Option(
        False, "--database", help="Walk PostgreSQL's copy too, and hold the files against it."
    ),
) -> None:
    """Walks the chains and names the first link of each that does not hold.

    Exits 0 where all hold, 1 where one does not, 3 where nothing could be verified. A file that was
    cut off at its end looks whole: only --database shows that.
    """
    import asyncio

    from cli.auditing import NotVerified, verify_audit

    try:
        whole = asyncio.run(verify_audit(files or [], database=database))
    except NotVerified as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(3) from None
    if not whole:
        raise typer.Exit(1)
