"""One user's entries on all boards, brought in line with what is decided about the user.

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

_ENTRIES_MAX: Final = 500
"""Entries a transaction: what a submission may have to wait for, and what one call to a shard
of the index carries."""

_LOCK: Final = Statement.of(
    "select pg_advisory_xact_lock(hashtextextended('removal', %(user_id)s::bigint))"
)
_SWEEP: Final = Statement.load("sweep_user")
_BURY: Final = Statement.load("bury_user")


@dataclass(frozen=True, slots=True)
class Swept:
    """What one transaction did: `entry_count` standing entries changed; `complete`: no more are
    left. `xid` is None where the index has nothing to follow.
    """

    entry_count: int
    complete: bool
    xid: int | None
    changes: Sequence[IndexChange]


async def lock_user(connection: Connection, user_id: int) -> None:
    """Waits for its turn; to be called first, the lock ends with the transaction."""
    await execute(connection, _LOCK, {"user_id": user_id})


async def sweep(connection: Connection, user_id: int) -> Swept:
    """Gives up to 500 entries the state that the user's marks ask for; a revision more each."""
    return await _run(connection, _SWEEP, user_id)


async def bury(connection: Connection, user_id: int) -> Swept:
    """Makes tombstones without content of up to 500 rows, if the user is being deleted."""
    return await _run(connection, _BURY, user_id)


async def _run(connection: Connection, statement: Statement, user_id: int) -> Swept:
    shard = shard_of(user_id)
    rows = await execute(
        connection, statement, {"user_id": user_id, "shard": shard, "limit": _ENTRIES_MAX}
    )
    return Swept(
        entry_count=sum(row[1] for row in rows),
        complete=len(rows) < _ENTRIES_MAX,
        xid=next((row[2] for row in rows if row[2] is not None), None),
        changes=[IndexChange(row[0], shard, row[3]) for row in rows if row[3] is not None],
    )
