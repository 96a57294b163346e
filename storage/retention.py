"""What the ledger makes ahead of time, makes up for and lets go of: partitions, rank keys, outbox
rows, deleted boards.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from psycopg import sql

from storage.pool import Connection, Pool, query
from storage.rank_keys import fill_rank_keys
from storage.settings import PostgresSettings
from storage.statement import Statement

_DAYS_AHEAD: Final = 3
"""Ids may be a day ahead; two more days are what a stopped job may cost."""
_NAME_PREFIX: Final = "score_events_"
_TIMEOUT_S: Final = 30.0
_PURGE_ROWS: Final = 5_000

_TRIM: Final = Statement.of("""
with gone as (
  delete from outbox where record_time < now() - interval '24 hours' returning xid
)
update outbox_trimmed
set below = greatest(below, (select (max(xid)::text::bigint + 1)::text::xid8 from gone))
where exists (select from gone)
""")
_DELETED: Final = Statement.of("""
select season_no from seasons join boards using (board_no)
where not purged and delete_time < now() - interval '10 seconds' order by season_no
""")
_PURGE: Final = Statement.of("""
delete from entries where (shard, season_no, user_id) in (
  select shard, season_no, user_id from entries
  where shard = %(shard)s and season_no = %(season_no)s limit %(limit)s)
returning 1
""")
_MARK_PURGED: Final = Statement.of(
    "update seasons set purged = true where season_no = %(season_no)s"
)


class PostgresRetention:
    """The `Retention` port on PostgreSQL."""

    def __init__(self, settings: PostgresSettings, pool: Pool) -> None:
        self._pool = pool
        self._days_kept = days_kept(settings)

    async def make_partitions(self) -> None:
        """See `Retention.make_partitions`."""

        async def work(connection: Connection) -> None:
            await make_partitions(connection, self._days_kept)

        await self._pool.run(work, timeout_s=_TIMEOUT_S, idempotent=True)

    async def drop_partitions(self) -> None:
        """See `Retention.drop_partitions`."""

        async def work(connection: Connection) -> None:
            oldest = await _today(connection) - timedelta(days=self._days_kept + 1)
            for name in sorted(await _existing(connection)):
                if name < _name(oldest):
                    await connection.execute(sql.SQL("drop table {}").format(sql.Identifier(name)))

        await self._pool.run(work, timeout_s=_TIMEOUT_S, idempotent=True)

    async def trim_outbox(self) -> None:
        """See `Retention.trim_outbox`."""
        await query(self._pool, _TRIM, {}, timeout_s=_TIMEOUT_S)

    async def fill_rank_keys(self, shard: int, *, limit: int) -> int:
        """See `Retention.fill_rank_keys`."""
        return await fill_rank_keys(self._pool, shard, limit=limit)

    async def deleted_seasons(self) -> Sequence[int]:
        """See `Retention.deleted_seasons`."""
        return [row[0] for row in await query(self._pool, _DELETED, {}, timeout_s=_TIMEOUT_S)]

    async def purge(self, season_number: int, shard: int) -> bool:
        """See `Retention.purge`."""
        rows = await query(
            self._pool,
            _PURGE,
            {"season_no": season_number, "shard": shard, "limit": _PURGE_ROWS},
            timeout_s=_TIMEOUT_S,
        )
        return len(rows) < _PURGE_ROWS

    async def mark_purged(self, season_number: int) -> None:
        """See `Retention.mark_purged`."""
        await query(
            self._pool,
            _MARK_PURGED,
            {"season_no": season_number},
            timeout_s=_TIMEOUT_S,
        )


def days_kept(settings: PostgresSettings) -> int:
    """How many past days of submissions are kept: the window, and the day it began in."""
    return settings.submission_window.days + 1


async def make_partitions(connection: Connection, days_past: int) -> None:
    """Makes the missing partitions from `days_past` days ago to three days ahead."""
    today = await _today(connection)
    existing = await _existing(connection)
    for offset in range(-days_past, _DAYS_AHEAD + 1):
        day = today + timedelta(days=offset)
        if _name(day) not in existing:
            await _make(connection, day)


async def _make(connection: Connection, day: date) -> None:
    """CREATE and ATTACH: attaching waits for nobody, CREATE .. PARTITION OF would."""
    name = sql.Identifier(_name(day))
    async with connection.transaction():
        await connection.execute(
            sql.SQL("create table {} (like score_events including all)").format(name)
        )
        await connection.execute(
            sql.SQL(
                "alter table score_events attach partition {} for values from ({}) to ({})"
            ).format(
                name, sql.Literal(_first_id(day)), sql.Literal(_first_id(day + timedelta(days=1)))
            )
        )


async def _today(connection: Connection) -> date:
    """The day by the database's clock: ids are judged by it."""
    cursor = await connection.execute("select (now() at time zone 'UTC')::date")
    (today,) = await cursor.fetchone() or (None,)
    if not isinstance(today, date):
        raise TypeError
    return today


async def _existing(connection: Connection) -> set[str]:
    cursor = await connection.execute(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid "
        "where i.inhparent = 'score_events'::regclass"
    )
    return {row[0] for row in await cursor.fetchall()}


def _name(day: date) -> str:
    return f"{_NAME_PREFIX}{day:%Y%m%d}"


def _first_id(day: date) -> uuid.UUID:
    """The smallest UUIDv7 of a day."""
    midnight = datetime.combine(day, time(), UTC)
    return uuid.UUID(int=int(midnight.timestamp() * 1000) << 80)
