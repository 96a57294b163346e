"""Brings the schema up to date: numbered SQL files, each applied once, under one lock."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import psycopg

from storage.pool import Connection, translated
from storage.rank_indexes import make_rank_indexes, missing_rank_indexes
from storage.retention import days_kept, make_partitions
from storage.settings import PostgresSettings

_LOCK: Final = 0x5374616E64696E67
"""The advisory lock of migrations ('Standing'): two deploys at once wait for each other."""
RANK_INDEXES: Final = "rank indexes"
"""What they are called among the migrations, all of them together."""
_TRY_LOCK_S: Final = 0.2
"""How often it is tried. Who waited for it within a statement would hold up the indexes that the
other one makes: these wait for every statement from before to end.
"""


class MigrationChanged(Exception):
    """A migration that was applied differs from the file of today: restore the file, add a new
    one.
    """


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of storage/migrations; `checksum` covers its bytes."""

    number: int
    name: str
    text: bytes

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, in hex."""
        return hashlib.sha256(self.text).hexdigest()


def known_migrations() -> Sequence[Migration]:
    """The files that ship with this version, by number."""
    found = [
        Migration(int(file.name[:4]), file.name, file.read_bytes())
        for file in files("storage").joinpath("migrations").iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.number)


async def migrate(dsn: str) -> Sequence[str]:
    """Applies what is missing, each file in its own transaction, then makes indexes outside of any;
    returns what was done.

    Needs a session of its own (the lock), so `dsn` must not lead through a transaction pooler.
    Raises MigrationChanged, LedgerUnavailable.
    """
    with translated():
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await _lock(connection)
            try:
                applied = await _apply_missing(connection)
                made = await make_rank_indexes(connection)
                return [*applied, *([RANK_INDEXES] if made else [])]
            finally:
                await connection.execute("select pg_advisory_unlock(%s)", (_LOCK,))


async def pending_migrations(connection: Connection) -> Sequence[str]:
    """The names that `migrate` would apply. Raises MigrationChanged."""
    applied = await _applied(connection)
    pending = [
        migration.name for migration in known_migrations() if not _is_applied(migration, applied)
    ]
    if not pending and await missing_rank_indexes(connection):
        return [RANK_INDEXES]
    return pending


async def _lock(connection: Connection) -> None:
    while True:
        cursor = await connection.execute("select pg_try_advisory_lock(%s)", (_LOCK,))
        row = await cursor.fetchone()
        if row is not None and row[0]:
            return
        await asyncio.sleep(_TRY_LOCK_S)


async def _apply_missing(connection: Connection) -> Sequence[str]:
    await connection.execute(
        "create table if not exists schema_migrations (number integer primary key, "
        "name text not null, checksum text not null, apply_time timestamptz not null default now())"
    )
    applied = await _applied(connection)
    names = []
    for migration in known_migrations():
        if _is_applied(migration, applied):
            continue
        async with connection.transaction():
            await connection.execute("set local lock_timeout = '4s'")
            await connection.execute(migration.text)
            await connection.execute(
                "insert into schema_migrations (number, name, checksum) values (%s, %s, %s)",
                (migration.number, migration.name, migration.checksum),
            )
        names.append(migration.name)
    await _ensure_signing_key(connection)
    # The first submissions must not have to wait for the job.
    await make_partitions(connection, days_kept(PostgresSettings()))
    return names


async def _applied(connection: Connection) -> dict[int, str]:
    cursor = await connection.execute("select to_regclass('schema_migrations') is not null")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return {}
    cursor = await connection.execute("select number, checksum from schema_migrations")
    return {row[0]: row[1] for row in await cursor.fetchall()}


def _is_applied(migration: Migration, applied: dict[int, str]) -> bool:
    checksum = applied.get(migration.number)
    if checksum is not None and checksum != migration.checksum:
        raise MigrationChanged(migration.name)
    return checksum is not None


async def _ensure_signing_key(connection: Connection) -> None:
    await connection.execute(
        "insert into signing_keys (secret) select %s where not exists (select from signing_keys)",
        (secrets.token_bytes(32),),
    )
