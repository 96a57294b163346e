"""How far a server of PostgreSQL is in which history, and of when a standby's state is.

A standby cannot tell how old it is: the age of its last transaction grows while nothing is written
at all, and the time in it is of another machine's clock. So the primary is asked about once a
second how far it has written, and the moment before the question is noted by this process's own
clock. Whatever was committed before that moment stands before that place, because a commit is
shown to nobody before it is on disk. A standby that has come as far therefore shows all of it. What
is told of its age is never less than the truth, and more by no more than the time between two
questions, while the primary answers them; without them it grows by a second a second, since nobody
knows what the primary has taken in meanwhile.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from storage.history import FOLLOWED_TIMELINE
from storage.pool import Connection, execute
from storage.statement import Statement

_MARKS_MAX: Final = 900
"""A quarter of an hour of one mark a second. Who is behind by more is of unknown age."""
_POSITION: Final = Statement.of(f"""
select s.standby, c.system_identifier,
       (select oid::bigint from pg_database where datname = current_database()),
       case when s.standby
         then {FOLLOWED_TIMELINE}::bigint
         else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint
       end,
       (case when s.standby then pg_last_wal_replay_lsn()
         else pg_current_wal_flush_lsn() end - '0/0'::pg_lsn)::bigint,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint
from (select pg_is_in_recovery() as standby) s, pg_control_system() c
""")  # noqa: S608  # constants of these modules

History = tuple[int, int, int]
"""The database cluster, the database, and the timeline."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a server is: a standby by what it has replayed, a primary by what it has on disk.

    `lsn` in bytes from the start of the log. Every transaction below `horizon` has ended there.
    """

    standby: bool
    history: History
    lsn: int
    horizon: int


async def position_of(connection: Connection) -> Position:
    """The position of the server behind a connection, which whatever is read there afterwards has
    reached. Cost: one round trip.
    """
    rows = await execute(connection, _POSITION, {})
    standby, cluster, database, timeline, lsn, horizon = rows[0]
    return Position(standby, (cluster, database, timeline), lsn, horizon)


class PrimaryMarks:
    """Where the primary was, and when, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._history: History | None = None
        self._marks: deque[tuple[int, float]] = deque(maxlen=_MARKS_MAX)

    def note(self, position: Position, asked_s: float) -> None:
        """Notes what a primary said that was asked then. Of another history than before: places
        in the old one say nothing any more, nor does a place that it had passed already.
        """
        if position.standby:
            return
        if position.history != self._history or self._newest > position.lsn:
            self._marks.clear()
            self._history = position.history
        if self._newest == position.lsn:
            self._marks.pop()
        self._marks.append((position.lsn, asked_s))

    def as_of_s(self, position: Position) -> float | None:
        """All that was committed before this time is shown by a standby that has come so far; None:
        it is no standby of this primary, or too far behind.
        """
        if not position.standby or position.history != self._history:
            return None
        reached = (asked_s for lsn, asked_s in reversed(self._marks) if lsn <= position.lsn)
        return next(reached, None)

    @property
    def _newest(self) -> int:
        return self._marks[-1][0] if self._marks else -1
