"""The indexes over rank keys, which are made while writes go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from psycopg import sql

from core.types import ALL_SHARDS
from storage.pool import Connection

_INDEXES: Final = {
    # What a page is read by.
    "by_rank": "(season_no, rank_key, user_id) where state = 0 and rank_key is not null",
    # The entries whose key has still to be filled in, and all those of boards without an order.
    "unranked": "(season_no) where state = 0 and rank_key is null",
}
_VALID: Final = """
select c.relname, i.indisvalid
from pg_index i
join pg_class c on c.oid = i.indexrelid
join pg_inherits p on p.inhrelid = i.indrelid
where p.inhparent = 'entries'::regclass
"""


async def missing_rank_indexes(connection: Connection) -> Sequence[str]:
    """The names of those that are not there, or not to be used."""
    cursor = await connection.execute(_VALID)
    valid = {row[0] for row in await cursor.fetchall() if row[1]}
    return [name for name in _definitions() if name not in valid]


async def make_rank_indexes(connection: Connection) -> Sequence[str]:
    """Makes what is missing and returns the names; waits until every transaction of now has ended.

    `connection` commits by itself. One that broke off left an index that is written to and never
    read: it goes first.
    """
    missing = await missing_rank_indexes(connection)
    for name in missing:
        table, definition = _definitions()[name]
        index = sql.Identifier(name)
        await connection.execute(sql.SQL("drop index concurrently if exists {}").format(index))
        await connection.execute(
            sql.SQL("create index concurrently {} on {} {}").format(
                index, sql.Identifier(table), sql.SQL(definition)
            )
        )
    return missing


def _definitions() -> dict[str, tuple[str, str]]:
    """Table and definition of each by its name."""
    return {
        f"entries_{shard}_{name}": (f"entries_{shard}", definition)
        for shard in ALL_SHARDS
        for name, definition in _INDEXES.items()
    }
