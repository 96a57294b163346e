"""What the index is caught up and built from: the outbox and the entries, always the primary's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from core.ports import LedgerChanges, LedgerPoint, LedgerTransaction, LoadedChunk
from core.types import IndexChange
from storage.pool import Pool, Row, query
from storage.statement import Statement

_TIMEOUT_S: Final = 10.0
"""A chunk of a build may read cold pages; nobody waits for it."""
_TRANSACTIONS_MAX: Final = 5_000
"""At most so many transactions a step; the rest comes with the next one."""
_ITEM: Final = """
index_item(e.user_id, e.score, e.subscore, e.arrival, e.revision, e.state, e.achieve_time,
           (b.sort_order - 2)::bigint, (b.subscore_sort_order - 2)::bigint)
"""
"""Sort orders are 1 (descending) and 2 (ascending): minus 2 gives the flips, -1 and 0."""

NEXT_ITEMS: Final = f"""
select e.user_id, e.state, {_ITEM} as item
from entries e
join seasons s on s.season_no = e.season_no
join boards b using (board_no)
where e.shard = %(shard)s and e.season_no = %(season_no)s and e.user_id > %(after)s
  and e.state <> 3
order by e.user_id
limit %(limit)s
"""  # noqa: S608  # only constants of this module
"""The next rows of a season on a shard: what is built and what is verified is the same."""

FOLLOWED_TIMELINE: Final = """
(select greatest(h.timeline_id, r.min_recovery_end_timeline,
                 (select max(received_tli) from pg_stat_wal_receiver))
 from pg_control_checkpoint() h, pg_control_recovery() r)
"""
"""The timeline of a standby. Who may not read pg_stat_wal_receiver (a member of pg_monitor may) has
it of the control file alone; that tells the old one after a promotion which the standby follows,
until it is written next, by a restart point at the latest."""


def _ledger(timeline: str) -> str:
    return f"""
substr(sha256(convert_to(
  concat_ws(':', (select system_identifier from pg_control_system()), {timeline},
            (select oid from pg_database where datname = current_database())), 'UTF8')), 1, 8)
"""  # noqa: S608  # constants of this module


LEDGER: Final = _ledger("substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)")
"""The database cluster, its timeline and the database. The timeline that the control file tells is
the old one until the first checkpoint after a promotion."""
FOLLOWED_LEDGER: Final = _ledger(f"lpad(upper(to_hex({FOLLOWED_TIMELINE})), 8, '0')")
"""The same by a standby of it."""

_HORIZON: Final = Statement.of("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
_POINT: Final = Statement.of(f"""
select pg_snapshot_xmin(s)::text::bigint, {LEDGER}, pg_snapshot_xmax(s)::text::bigint
from pg_current_snapshot() s
""")  # noqa: S608
_CHANGES: Final = Statement.of(f"""
with bounds as materialized (
  select pg_snapshot_xmin(s) as horizon, pg_snapshot_xmax(s) as newest,
         %(since)s::text::xid8 as since, {LEDGER} as ledger
  from pg_current_snapshot() s
)
select b.horizon::text::bigint, b.newest::text::bigint, t.below::text::bigint, b.ledger,
       o.xid::text::bigint, o.shards, o.season_no, o.user_id
from bounds b
cross join outbox_trimmed t
left join lateral (
  select * from outbox where xid >= b.since and xid < b.horizon order by xid limit %(limit)s
) o on true
order by o.xid
""")  # noqa: S608
_COMMITTED: Final = Statement.of("""
select xid::text::bigint, shards, season_no, user_id
from outbox where xid >= %(since)s::text::xid8 order by xid limit %(limit)s
""")
_ITEMS: Final = Statement.of(f"""
select e.season_no, {_ITEM}
from unnest(%(season_no)s::integer[], %(user_id)s::bigint[]) as u(season_no, user_id)
join entries e on e.shard = %(shard)s and e.season_no = u.season_no and e.user_id = u.user_id
join seasons s on s.season_no = e.season_no
join boards b using (board_no)
where e.state <> 3
""")  # noqa: S608
_LOAD: Final = Statement.of(f"""
select string_agg(item, ''::bytea order by user_id), max(user_id), count(*)
from (
{NEXT_ITEMS}) chunk
""")  # noqa: S608  # only constants of this module
_SEASONS: Final = Statement.of("""
select season_no from seasons join boards using (board_no)
where delete_time is null and starts_at <= now() - make_interval(secs => %(older_than_s)s)
order by season_no
""")


class PostgresHistory:
    """The `LedgerHistory` port on PostgreSQL; `pool` leads to the primary."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def horizon(self) -> int:
        """See `LedgerHistory.horizon`."""
        rows = await self._query(_HORIZON, {})
        return int(rows[0][0])

    async def point(self) -> LedgerPoint:
        """See `LedgerHistory.point`."""
        rows = await self._query(_POINT, {})
        return LedgerPoint(*rows[0])

    async def changes(self, since: int) -> LedgerChanges:
        """See `LedgerHistory.changes`; at most 5,000 transactions, the oldest ones."""
        rows = await self._query(
            _CHANGES,
            {"since": str(since), "limit": _TRANSACTIONS_MAX},
        )
        horizon, newest, trimmed_below, ledger = rows[0][:4]
        transactions = [_transaction(row[4:]) for row in rows if row[4] is not None]
        if len(transactions) == _TRANSACTIONS_MAX:
            horizon = transactions[-1].xid + 1
        return LedgerChanges(horizon, newest, trimmed_below, transactions, ledger)

    async def committed(self, since: int) -> Sequence[LedgerTransaction]:
        """See `LedgerHistory.committed`; at most 5,000."""
        rows = await self._query(_COMMITTED, {"since": str(since), "limit": _TRANSACTIONS_MAX})
        return [_transaction(row) for row in rows]

    async def items(self, shard: int, users: Sequence[tuple[int, int]]) -> Sequence[IndexChange]:
        """See `LedgerHistory.items`."""
        rows = await self._query(
            _ITEMS,
            {
                "shard": shard,
                "season_no": [season_number for season_number, _ in users],
                "user_id": [user_id for _, user_id in users],
            },
        )
        return [IndexChange(season_number, shard, item) for season_number, item in rows]

    async def load(
        self, season_number: int, shard: int, *, after_user_id: int, limit: int
    ) -> LoadedChunk:
        """See `LedgerHistory.load`. PostgreSQL makes the bytes; they only pass through here."""
        rows = await self._query(
            _LOAD,
            {
                "season_no": season_number,
                "shard": shard,
                "after": after_user_id,
                "limit": limit,
            },
        )
        items, last_user_id, count = rows[0]
        return LoadedChunk(items=items or b"", last_user_id=last_user_id or 0, count=count)

    async def season_numbers(self, *, older_than_s: float = 0) -> Sequence[int]:
        """See `LedgerHistory.season_numbers`."""
        rows = await self._query(_SEASONS, {"older_than_s": older_than_s})
        return [row[0] for row in rows]

    async def _query(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
        return await query(self._pool, statement, parameters, timeout_s=_TIMEOUT_S, idempotent=True)


def _transaction(row: Row) -> LedgerTransaction:
    xid, shards, season_numbers, user_ids = row
    return LedgerTransaction(xid, shards, tuple(zip(season_numbers, user_ids, strict=True)))
