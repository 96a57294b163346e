"""One user's entries on all boards, brought in line with what is decided about the user.

Nothing finds a user's entries but a look by key in every season. So they are gone through in parts
of so many seasons, each in a transaction of its own, whose position the next one begins behind.

Transactions about one user stand in line at an advisory lock, so that each statement behind the
lock sees all that was decided before. What else goes on is not held up by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.types import IndexChange, shard_of
from storage.pool import Connection, execute
from storage.statement import Statement

_SEASONS_MAX: Final = 1_000
"""Seasons a transaction: some 4 ms, and no more entries than a submission may have to wait for and
one call to a shard of the index carries."""

_LOCK: Final = Statement.of(
    "select pg_advisory_xact_lock(hashtextextended('removal', %(user_id)s::bigint))"
)
_BEING_DELETED: Final = Statement.of(
    "select exists (select from user_marks where user_id = %(user_id)s and mark = 2)"
)
_SWEEP: Final = Statement.load("sweep_user")
_BURY: Final = Statement.load("bury_user")
_COUNT_DELETED: Final = Statement.of("""
update user_deletions set entry_count = entry_count + %(count)s
where user_id = %(user_id)s and complete_time is null
""")


@dataclass(frozen=True, slots=True)
class Swept:
    """What one transaction did: `entry_count` standing entries changed. `through`: the season
    behind which the next one has to go on, None after the last.

    `xid` is None where the index has nothing to follow. `earlier` as in EntrySweep. `content`:
    whether it met more of the user than tombstones without any.
    """

    entry_count: int
    through: int | None
    xid: int | None
    changes: Sequence[IndexChange]
    earlier: Sequence[tuple[int, int]]
    content: bool


async def lock_user(connection: Connection, user_id: int) -> None:
    """Waits for its turn; to be called first, the lock ends with the transaction."""
    await execute(connection, _LOCK, {"user_id": user_id})


async def look(connection: Connection, user_id: int, *, after: int) -> Swept:
    """Does what is decided to the entries in the next 1,000 seasons: gives them the state that the
    user's marks ask for, or makes tombstones of them, if the user is being deleted.

    `after` is 0 or the `through` of the part before. Cost: up to three round trips. Harmless to do
    again.
    """
    ((being_deleted,),) = await execute(connection, _BEING_DELETED, {"user_id": user_id})
    if being_deleted:
        return await bury(connection, user_id, after=after)
    return await _run(connection, _SWEEP, user_id, after)


async def bury(connection: Connection, user_id: int, *, after: int) -> Swept:
    """Makes tombstones without content of a part, and notes in the deletion how many entries those
    were. Does nothing if the user is not being deleted any more.
    """
    swept = await _run(connection, _BURY, user_id, after)
    if swept.entry_count:
        await execute(connection, _COUNT_DELETED, {"user_id": user_id, "count": swept.entry_count})
    return swept


async def _run(connection: Connection, statement: Statement, user_id: int, after: int) -> Swept:
    shard = shard_of(user_id)
    *rows, (through, *_, more) = await execute(
        connection,
        statement,
        {"user_id": user_id, "shard": shard, "after": after, "limit": _SEASONS_MAX},
    )
    return Swept(
        entry_count=sum(row[1] for row in rows),
        through=through if more else None,
        xid=next((row[2] for row in rows if row[3] is not None), None),
        changes=[IndexChange(row[0], shard, row[3]) for row in rows if row[3] is not None],
        earlier=[(row[0], row[2]) for row in rows if row[3] is None and row[2] is not None],
        content=any(row[4] for row in rows),
    )
