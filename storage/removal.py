"""Entries and users off the boards: deleted, hidden, shown again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from core.errors import (
    BoardNotFound,
    EntryNotFound,
    SubmissionIdInFuture,
    SubmissionIdReused,
    SubmissionIdTooOld,
)
from core.removal_ports import EntryDeletion, EntrySweep, Hiding, RemovedEntry, UserDeletion
from core.types import Board, Erasure, IndexChange, Outcome, Season, Standing, shard_of
from storage.batch import StoredRow, window_of
from storage.entry_sweeps import Swept, lock_user, look
from storage.pool import DATA_ERRORS, Connection, Pool, Row, execute, query, refused
from storage.settings import PostgresSettings
from storage.statement import Statement
from storage.transactions import transact_patiently

_STATEMENTS_MAX: Final = 8
"""In one transaction that deletes an entry."""
_TIMEOUT_S: Final = 30.0
"""For a transaction about a user: as long as PostgreSQL lets a job's statement run."""

_HIDE: Final = Statement.of("""
insert into user_marks (user_id, board_no, mark)
values (%(user_id)s, %(board_no)s, 1)
on conflict (user_id, board_no, mark) do update set create_time = clock_timestamp()
returning xmax = 0
""")
"""Whether the mark is new: only a row that was there before has been locked by somebody."""
_RESTORE: Final = Statement.of("""
delete from user_marks
where user_id = %(user_id)s and board_no = %(board_no)s and mark = 1 returning true
""")
_STILL_HIDDEN: Final = Statement.of("""
select exists (
  select from user_marks m
  where m.user_id = %(user_id)s and m.mark = 1 and (
    m.board_no in (0, %(board_no)s::integer)
    or (%(board_no)s::integer = 0 and exists (
      select from boards b where b.board_no = m.board_no and b.delete_time is null)))
)
""")
_SWEEP_AGAIN: Final = Statement.of("""
insert into user_sweeps (user_id) values (%(user_id)s)
on conflict (user_id) do update set seen_time = null, fence = null, through = 0
""")
_MARK_DELETED: Final = Statement.of("""
insert into user_marks (user_id, board_no, mark) values (%(user_id)s, 0, 2)
on conflict do nothing
""")
_BEGIN_DELETION: Final = Statement.of("""
insert into user_deletions (user_id, erasure) values (%(user_id)s, %(erasure)s)
""")
_RAISE_ERASURE: Final = Statement.of("""
update user_deletions set erasure = 1
where user_id = %(user_id)s and complete_time is null and erasure = 2
""")
"""Submissions that were anonymized before have no user any more: nothing would find them again."""
_LAST_DELETION: Final = Statement.of("""
select entry_count, event_count, (extract(epoch from create_time) * 1000)::bigint,
       (extract(epoch from complete_time) * 1000)::bigint, erasure
from user_deletions where user_id = %(user_id)s order by deletion_no desc limit 1
""")
_BOARD_GONE: Final = Statement.of("""
select exists (
  select from boards where delete_time >= (
    select complete_time from user_deletions where user_id = %(user_id)s
    order by deletion_no desc limit 1))
""")
"""Whether a board was deleted since. What went with it, nobody can tell: it may be purged."""
_DELETE_ENTRY: Final = Statement.load("delete_entry")
_RECORDED: Final = Statement.load("recorded")

_T = TypeVar("_T")


class PostgresRemoval:
    """The `Removal` port on PostgreSQL.

    What is done to users takes time with the number of seasons. So it keeps off the ledger's
    connections, and takes two of the jobs' at most: one decision and one sweep at a time.
    """

    def __init__(self, settings: PostgresSettings, *, write: Pool, jobs: Pool) -> None:
        self._write = write
        self._jobs = jobs
        self._deciding = asyncio.Semaphore()
        self._sweeping = asyncio.Semaphore()
        self._timeout_s = settings.write_timeout_ms / 1000 * _STATEMENTS_MAX
        self._window = window_of(past=settings.submission_window, future=settings.submission_ahead)

    async def delete_entry(self, deletion: EntryDeletion) -> RemovedEntry:
        """See `Removal.delete_entry`. Three round trips, one more for a duplicate."""

        async def work(connection: Connection) -> RemovedEntry:
            (row,) = await execute(
                connection,
                _DELETE_ENTRY,
                {
                    "id": deletion.submission_id,
                    "season_no": deletion.season.number,
                    "user_id": deletion.user_id,
                    "shard": shard_of(deletion.user_id),
                    "digest": deletion.digest,
                    **self._window,
                },
            )
            if row[0] == "known" or (row[0] is None and row[2] is None):
                # Without an entry, because the twin that was waited for has just deleted it.
                return await _known(connection, deletion)
            return _removed(deletion, row)

        try:
            return await self._transact(work)
        except DATA_ERRORS as error:
            raise refused(error) from None

    async def hide(self, user_id: int, board: Board | None) -> Hiding:
        """See `Removal.hide`. Seven round trips, five where the mark is there already, and five
        for every 1,000 seasons: some 5 ms.
        """
        return await self._set_hidden(_HIDE, user_id, board)

    async def restore(self, user_id: int, board: Board | None) -> Hiding:
        """See `Removal.restore`. Costs as `hide`."""
        return await self._set_hidden(_RESTORE, user_id, board)

    async def delete_user(self, user_id: int, erasure: Erasure) -> UserDeletion:
        """See `Removal.delete_user`. Eight round trips, and six for every 1,000 seasons."""

        async def decide(connection: Connection) -> bool:
            return await _delete(connection, user_id, erasure, again=False)

        async def decide_again(connection: Connection) -> bool:
            return await _delete(connection, user_id, erasure, again=True)

        under_way = await self._decide(decide)
        parts = await self._sweep(user_id)
        if not under_way and await self._come_since(user_id, parts):
            await self._decide(decide_again)
            parts = await self._sweep(user_id)
        (row,) = await query(self._jobs, _LAST_DELETION, {"user_id": user_id}, timeout_s=_TIMEOUT_S)
        return UserDeletion(
            erasure=Erasure(row[4]),
            entry_count=row[0],
            event_count=row[1],
            create_time_ms=row[2],
            complete_time_ms=row[3],
            sweep=_together(parts),
        )

    async def _set_hidden(self, statement: Statement, user_id: int, board: Board | None) -> Hiding:
        async def decide(connection: Connection) -> tuple[bool, bool]:
            await lock_user(connection, user_id)
            where = {"user_id": user_id, "board_no": board.number if board else 0}
            rows = await execute(connection, statement, where)
            changed = any(row[0] for row in rows)
            if changed:
                await execute(connection, _SWEEP_AGAIN, where)
            ((still_hidden,),) = await execute(connection, _STILL_HIDDEN, where)
            return changed, still_hidden

        changed, still_hidden = await self._decide(decide)
        sweep = _together(await self._sweep(user_id))
        return Hiding(changed=changed, still_hidden=still_hidden, sweep=sweep)

    async def _sweep(self, user_id: int) -> Sequence[Swept]:
        """Goes through all entries of a user, also where nothing was decided now: the call that
        did decide may not have come to its end.
        """
        parts: list[Swept] = []
        after: int | None = 0
        async with self._sweeping:
            while after is not None:
                part = await transact_patiently(
                    self._jobs, _look_after(user_id, after), timeout_s=_TIMEOUT_S
                )
                parts.append(part)
                after = part.through
        return parts

    async def _come_since(self, user_id: int, parts: Sequence[Swept]) -> bool:
        """Whether there is anything to delete that the last deletion, a complete one, had not."""
        if any(part.content for part in parts):
            return True
        where = {"user_id": user_id}
        ((board_gone,),) = await query(self._jobs, _BOARD_GONE, where, timeout_s=_TIMEOUT_S)
        return bool(board_gone)

    async def _decide(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        async with self._deciding:
            return await transact_patiently(self._jobs, work, timeout_s=_TIMEOUT_S)

    async def _transact(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        return await transact_patiently(self._write, work, timeout_s=self._timeout_s)


def _look_after(user_id: int, after: int) -> Callable[[Connection], Awaitable[Swept]]:
    async def work(connection: Connection) -> Swept:
        await lock_user(connection, user_id)
        return await look(connection, user_id, after=after)

    return work


def _together(parts: Sequence[Swept]) -> EntrySweep:
    return EntrySweep(
        entry_count=sum(part.entry_count for part in parts),
        changes={part.xid: part.changes for part in parts if part.xid is not None},
        earlier=[entry for part in parts for entry in part.earlier],
    )


async def _delete(connection: Connection, user_id: int, erasure: Erasure, *, again: bool) -> bool:
    """Begins a deletion or makes the one that is under way stricter; after a complete one only
    `again`. Whether one is under way now.
    """
    await lock_user(connection, user_id)
    user = {"user_id": user_id}
    rows = await execute(connection, _LAST_DELETION, user)
    if not rows or (again and rows[0][3] is not None):
        await execute(connection, _BEGIN_DELETION, user | {"erasure": int(erasure)})
        await execute(connection, _MARK_DELETED, user)
        await execute(connection, _SWEEP_AGAIN, user)
    elif rows[0][3] is not None:
        return False
    elif erasure is Erasure.ERASE:
        await execute(connection, _RAISE_ERASURE, user)
    return True


async def _known(connection: Connection, deletion: EntryDeletion) -> RemovedEntry:
    """What was stored under this id. Raises EntryNotFound where nothing was, SubmissionIdReused
    where it was something else.
    """
    submission_id = deletion.submission_id
    rows = await execute(
        connection,
        _RECORDED,
        {"id": [submission_id], "first_id": submission_id, "last_id": submission_id},
    )
    if not rows:
        raise EntryNotFound
    stored = StoredRow._make(rows[0])
    if not stored.is_of(deletion.digest):
        raise SubmissionIdReused
    _, deleted = stored.standings()
    season = Season(stored.season_no, stored.season_id)
    return RemovedEntry(Outcome.DUPLICATE, deleted, season, stored.xid, ())


def _removed(deletion: EntryDeletion, row: Row) -> RemovedEntry:
    """What a deletion did. Raises what it was refused for."""
    match row[0]:
        case "too old":
            raise SubmissionIdTooOld(row[1])
        case "in future":
            raise SubmissionIdInFuture(row[1])
        case "no board":
            raise BoardNotFound
    user_id = deletion.user_id
    item = IndexChange(deletion.season.number, shard_of(user_id), row[9])
    return RemovedEntry(
        outcome=Outcome.APPLIED,
        deleted=Standing(user_id, *row[2:8]),
        season=deletion.season,
        xid=row[8],
        changes=(item,),
    )
