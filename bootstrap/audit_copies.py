"""The audit as a command finds it, without a server: in files, and in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bootstrap.audit_files import audit_files
from bootstrap.container import postgres_dsn
from bootstrap.settings import Settings
from core.audit_lines import parse_line
from core.audit_ports import AuditArchive
from core.verify_audit import Chain, Walk
from storage.audit import PostgresAudit
from storage.pool import open_pool
from storage.sessions import PoolUse


@asynccontextmanager
async def open_archive(settings: Settings) -> AsyncIterator[AuditArchive]:
    """The audit of all machines, for a command that asks it once. Raises NotConfigured."""
    dsn = postgres_dsn(settings)
    async with open_pool(settings.postgres, dsn, PoolUse.JOBS) as pool:
        yield PostgresAudit(pool)


def walk_files(paths: Sequence[Path]) -> Mapping[str, Chain]:
    """The chains in some files, given in any order; a folder stands for the files in it. Raises
    OSError.
    """
    files = [file for path in paths for file in (audit_files(path) if path.is_dir() else (path,))]
    walk = Walk()
    for path in sorted(files, key=_place):
        with path.open("rb") as lines:
            for number, data in enumerate(lines, start=1):
                ended = data.endswith(b"\n")
                walk.step(data.removesuffix(b"\n"), f"{path}:{number}", ended=ended)
    return walk.chains


def _place(path: Path) -> tuple[str, int, str]:
    """Where a file belongs: by its first line, or by its name where there is none."""
    with path.open("rb") as lines:
        first = parse_line(lines.readline().removesuffix(b"\n"))
    return (first.chain, first.sequence, path.name) if first else ("", 0, path.name)
