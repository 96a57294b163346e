"""What hiding and deleting users leaves to do: one more look at their entries, and the erasure of
their submissions.

Why one more look is enough. A statement of the ledger decides by the marks that its snapshot shows.
One that began before a mark was committed may write an entry in the old state, and its transaction
may commit long after the first look. So:

1. The job sees the row in user_sweeps: the mark beside it is committed, and every statement that
   begins from now on sees it. It notes the time.
2. Some seconds later every statement that began before has ended, or has written and thus has a
   transaction id: PostgreSQL ends a statement of the ledger before that time is over. The job takes
   a transaction id of its own as the fence: ids are given in order, so all of those are below it.
   (pg_snapshot_xmax would not do: it is past the last transaction that has *ended*, and one with a
   larger id may be running.)
3. Once pg_snapshot_xmin has come to the fence, all transactions below it have ended, and the look
   that follows sees what they committed. Those at or above the fence saw the mark.

Another decision about the user in between makes the row new again, and all begins at 1. The ids
of another cluster mean nothing here: after a restore from a dump, a fence that no transaction of
this one has come to counts as not set.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from storage.entry_sweeps import lock_user, look
from storage.pool import Connection, Pool, execute, query
from storage.settings import PostgresSettings
from storage.statement import Statement
from storage.transactions import transact

_TIMEOUT_S: Final = 30.0
_SETTLED_AFTER: Final = timedelta(seconds=5)
"""At least; always longer than PostgreSQL lets a statement of the ledger run."""
_EVENTS_PER_STRETCH: Final = 10_000
"""Some 20 ms where they are in memory, so that no statement of others waits for long."""

_DUE: Final = Statement.of("""
with noted as (
  update user_sweeps set
    seen_time = coalesce(seen_time, clock_timestamp()),
    fence = case when seen_time is not null then pg_current_xact_id() end
  where (fence is null or fence >= pg_snapshot_xmax(pg_current_snapshot()))
    and (seen_time is null or seen_time < clock_timestamp() - %(settled_after)s::interval)
)
select user_id from user_sweeps
where fence <= pg_snapshot_xmin(pg_current_snapshot())
order by fence
""")
_STILL_DUE: Final = Statement.of("""
select through from user_sweeps
where user_id = %(user_id)s and fence <= pg_snapshot_xmin(pg_current_snapshot())
""")
_SWEPT_THROUGH: Final = Statement.of(
    "update user_sweeps set through = %(through)s where user_id = %(user_id)s"
)
_SWEPT: Final = Statement.of("delete from user_sweeps where user_id = %(user_id)s")
_LOCK: Final = Statement.of("select pg_advisory_xact_lock(hashtextextended('erasure', 0))")
_NEXT: Final = Statement.of("""
select erased_through,
       coalesce(array_agg(user_id) filter (where erasure = 1), '{}'),
       coalesce(array_agg(user_id) filter (where erasure = 2), '{}')
from user_deletions d
where complete_time is null
  and not exists (select from user_sweeps s where s.user_id = d.user_id)
group by erased_through
order by erased_through desc nulls last
limit 1
""")
"""Those who have come furthest, together: users who come later wait for the next round, so that
one pass over the submissions serves many."""
_ERASE: Final = Statement.load("erase_events")
_ERASED: Final = Statement.of("""
update user_deletions d set
  erased_through = coalesce(%(through)s::uuid, d.erased_through),
  event_count = d.event_count + coalesce(
    (select sum(c.count) from unnest(%(counted)s::bigint[], %(count)s::bigint[])
       as c(user_id, count) where c.user_id = d.user_id), 0),
  complete_time = case when %(complete)s::boolean then now() end
where d.user_id = any(%(users)s::bigint[]) and d.complete_time is null
""")
_UNMARK: Final = Statement.of("""
delete from user_marks m using user_deletions d
where m.user_id = any(%(users)s::bigint[]) and d.user_id = m.user_id and d.complete_time is null
  and (m.mark = 2 or m.create_time <= d.create_time)
""")
"""The hidings go as well, for they speak of the user; but not one that was asked for since."""


class PostgresUnfinishedRemovals:
    """The `UnfinishedRemovals` port on PostgreSQL. All of it may be run twice at once, and ended
    anywhere: each transaction leaves what the next one goes on from.
    """

    def __init__(self, settings: PostgresSettings, pool: Pool) -> None:
        self._pool = pool
        statement_max = timedelta(milliseconds=settings.write_timeout_ms)
        self._settled_after = max(_SETTLED_AFTER, statement_max + timedelta(seconds=1))

    async def due_sweeps(self) -> Sequence[int]:
        """See `UnfinishedRemovals.due_sweeps`. One round trip."""
        rows = await query(
            self._pool, _DUE, {"settled_after": self._settled_after}, timeout_s=_TIMEOUT_S
        )
        return [row[0] for row in rows]

    async def sweep(self, user_id: int) -> bool:
        """See `UnfinishedRemovals.sweep`. 1,000 seasons in seven round trips."""

        async def work(connection: Connection) -> bool:
            await lock_user(connection, user_id)
            rows = await execute(connection, _STILL_DUE, {"user_id": user_id})
            if not rows:
                # Decided anew while this one waited: then the row is not due any more.
                return True
            swept = await look(connection, user_id, after=rows[0][0])
            if swept.through is None:
                await execute(connection, _SWEPT, {"user_id": user_id})
                return True
            place = {"user_id": user_id, "through": swept.through}
            await execute(connection, _SWEPT_THROUGH, place)
            return False

        return await transact(self._pool, work, timeout_s=_TIMEOUT_S)

    async def erase(self) -> bool:
        """See `UnfinishedRemovals.erase`. Goes through 10,000 submissions in seven round trips."""
        return await transact(self._pool, _erase, timeout_s=_TIMEOUT_S)


async def _erase(connection: Connection) -> bool:
    await execute(connection, _LOCK, {})
    # No submission of these users is taken, and none is on its way: their entries have been
    # looked at for the last time. So nothing can appear behind the place that is noted here.
    rows = await execute(connection, _NEXT, {})
    if not rows:
        return True
    through, erase, anonymize = rows[0]
    *found, (_, looked_at, last_id) = await execute(
        connection,
        _ERASE,
        {
            "through": through,
            "limit": _EVENTS_PER_STRETCH,
            "erase": erase,
            "anonymize": anonymize,
        },
    )
    complete = looked_at < _EVENTS_PER_STRETCH
    users: dict[str, Any] = {"users": erase + anonymize}
    counts = {
        "counted": [row[0] for row in found],
        "count": [row[1] for row in found],
    }
    progress = {"through": last_id, "complete": complete}
    if complete:
        # From here on submissions are taken.
        await execute(connection, _UNMARK, users)
    await execute(connection, _ERASED, users | counts | progress)
    return False
