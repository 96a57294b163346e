"""Entries and users off the boards: deleted, hidden, shown again."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from core.errors import (
    BoardNotFound,
    EntryNotFound,
    SubmissionIdInFuture,
    SubmissionIdReused,
    SubmissionIdTooOld,
    WriteConflict,
)
from core.ports import EntryDeletion, EntrySweep, Hiding, RemovedEntry, UserDeletion
from core.types import AuditNote, Board, Erasure, IndexChange, Outcome, Season, Standing, shard_of
from storage.batch import StoredRow, window_of
from storage.entry_sweeps import Swept, bury, lock_user, sweep
from storage.pool import Connection, Pool, Row, execute
from storage.settings import PostgresSettings
from storage.statement import Statement
from storage.transactions import transact

_STATEMENTS_MAX: Final = 8
"""In one transaction of this module."""
_TRIES_MAX: Final = 3
"""A user's entries are locked in no set order, so a flush of the same user may be in the way."""

_HIDE: Final = Statement.of("""
insert into user_marks (user_id, board_no, mark)
values (%(user_id)s, %(board_no)s, 1) on conflict do nothing returning 1
""")
_RESTORE: Final = Statement.of("""
delete from user_marks
where user_id = %(user_id)s and board_no = %(board_no)s and mark = 1 returning 1
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
on conflict (user_id) do update set seen_time = null, fence = null
""")
_AUDIT: Final = Statement.of("""
insert into audit_events (action, user_id, board_id, actor, reason, request_id, details)
values (%(action)s, %(user_id)s, %(board_id)s, %(actor)s, %(reason)s, %(request_id)s,
        %(details)s::jsonb)
""")
_LATEST: Final = Statement.of("""
select o.season_no, o.xid::text::bigint
from (select xid from audit_events where user_id = %(user_id)s order by audit_no desc limit 4) a
cross join lateral (
  select o.xid, (
    select min(s.season_no) from seasons s join boards b using (board_no)
    where s.season_no = any(o.season_no) and b.delete_time is null) as season_no
  from outbox o where o.xid = a.xid
  offset 0
) o
where o.season_no is not null
order by o.xid desc
limit 1
""")
"""The last decision about a user that changed entries the index still holds."""
_MARK_DELETED: Final = Statement.of("""
insert into user_marks (user_id, board_no, mark) values (%(user_id)s, 0, 2)
on conflict do nothing
""")
_BEGIN_DELETION: Final = Statement.of("""
insert into user_deletions (user_id, erasure) values (%(user_id)s, %(erasure)s)
""")
_COUNT_DELETED: Final = Statement.of("""
update user_deletions set entry_count = entry_count + %(count)s
where user_id = %(user_id)s and complete_time is null
""")
_LAST_DELETION: Final = Statement.of("""
select entry_count, event_count, (extract(epoch from create_time) * 1000)::bigint,
       (extract(epoch from complete_time) * 1000)::bigint
from user_deletions where user_id = %(user_id)s order by deletion_no desc limit 1
""")
_COME_SINCE: Final = Statement.of("""
select exists (
  -- An entry, or a submission that was rejected; as in bury_user.sql.
  select from seasons s
  cross join lateral (
    select from entries e
    where e.shard = %(shard)s::smallint and e.season_no = s.season_no
      and e.user_id = %(user_id)s::bigint and (e.achieve_time > 'epoch' or e.outcome = 5)
    offset 0
  ) e
  where not s.purged
) or exists (
  -- What went with a board, nobody can tell: look for submissions again.
  select from seasons s join boards b using (board_no)
  where s.purged and b.delete_time >= (
    select max(create_time) from user_deletions where user_id = %(user_id)s)
) or exists (select from user_marks where user_id = %(user_id)s)
""")
_DELETE_ENTRY: Final = Statement.load("delete_entry")
_RECORDED: Final = Statement.load("recorded")

_T = TypeVar("_T")


class PostgresRemoval:
    """The `Removal` port on PostgreSQL."""

    def __init__(self, settings: PostgresSettings, *, write: Pool) -> None:
        self._write = write
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

        return await self._transact(work)

    async def hide(self, user_id: int, board: Board | None, note: AuditNote) -> Hiding:
        """See `Removal.hide`. Eight round trips for up to 500 entries, five where nothing is
        changed.
        """
        return await self._set_hidden(_HIDE, "hide_user", user_id, board, note)

    async def restore(self, user_id: int, board: Board | None, note: AuditNote) -> Hiding:
        """See `Removal.restore`. Costs as `hide`."""
        return await self._set_hidden(_RESTORE, "restore_user", user_id, board, note)

    async def delete_user(self, user_id: int, erasure: Erasure, note: AuditNote) -> UserDeletion:
        """See `Removal.delete_user`. Ten round trips for up to 500 entries."""

        async def work(connection: Connection) -> Swept | None:
            await lock_user(connection, user_id)
            if not await _is_new_deletion(connection, user_id):
                return None
            user = {"user_id": user_id}
            await execute(connection, _BEGIN_DELETION, user | {"erasure": int(erasure)})
            await execute(connection, _MARK_DELETED, user)
            details = {"erasure": erasure.name.lower()}
            return await _decided(connection, "delete_user", user_id, None, note, details)

        first = await self._transact(work)
        entry_sweep = await self._finish(user_id, first, bury_and_count)
        return await self._transact(lambda connection: _progress(connection, user_id, entry_sweep))

    async def _set_hidden(
        self, statement: Statement, action: str, user_id: int, board: Board | None, note: AuditNote
    ) -> Hiding:
        async def work(connection: Connection) -> tuple[Swept | None, bool]:
            await lock_user(connection, user_id)
            where = {"user_id": user_id, "board_no": board.number if board else 0}
            changed = await execute(connection, statement, where)
            swept = None
            if changed:
                swept = await _decided(connection, action, user_id, board, note, {})
            ((still_hidden,),) = await execute(connection, _STILL_HIDDEN, where)
            return swept, still_hidden

        first, still_hidden = await self._transact(work)
        entry_sweep = await self._finish(user_id, first, sweep)
        return Hiding(changed=first is not None, still_hidden=still_hidden, sweep=entry_sweep)

    async def _finish(
        self,
        user_id: int,
        first: Swept | None,
        go_on: Callable[[Connection, int], Awaitable[Swept]],
    ) -> EntrySweep:
        """Goes on where a user has more entries than one transaction takes; where nothing was
        decided, looks up what was before.
        """
        if first is None:
            return await self._transact(lambda connection: _latest(connection, user_id))

        async def work(connection: Connection) -> Swept:
            await lock_user(connection, user_id)
            return await go_on(connection, user_id)

        parts = [first]
        while not parts[-1].complete:
            parts.append(await self._transact(work))
        return EntrySweep(
            entry_count=sum(part.entry_count for part in parts),
            changes={part.xid: part.changes for part in parts if part.xid is not None},
        )

    async def _transact(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        for _ in range(_TRIES_MAX - 1):
            try:
                return await transact(self._write, work, timeout_s=self._timeout_s)
            except WriteConflict:
                continue
        return await transact(self._write, work, timeout_s=self._timeout_s)


async def bury_and_count(connection: Connection, user_id: int) -> Swept:
    """As `bury`, noted in the deletion that is under way."""
    swept = await bury(connection, user_id)
    await execute(connection, _COUNT_DELETED, {"user_id": user_id, "count": swept.entry_count})
    return swept


async def _decided(
    connection: Connection,
    action: str,
    user_id: int,
    board: Board | None,
    note: AuditNote,
    details: dict[str, Any],
) -> Swept:
    """What every decision about a user brings with it, in its own transaction: a first look at
    the entries, another one later, and the audit.
    """
    await execute(connection, _SWEEP_AGAIN, {"user_id": user_id})
    go_on = bury_and_count if action == "delete_user" else sweep
    swept = await go_on(connection, user_id)
    details = details | {"entry_count": swept.entry_count, "complete": swept.complete}
    await execute(
        connection,
        _AUDIT,
        {
            "action": action,
            "user_id": user_id,
            "board_id": board.spec.board_id if board else None,
            "actor": note.actor,
            "reason": note.reason,
            "request_id": note.request_id,
            "details": json.dumps(details),
        },
    )
    return swept


async def _latest(connection: Connection, user_id: int) -> EntrySweep:
    rows = await execute(connection, _LATEST, {"user_id": user_id})
    return EntrySweep(0, {}, latest=(rows[0][0], rows[0][1]) if rows else None)


async def _is_new_deletion(connection: Connection, user_id: int) -> bool:
    """Whether there is anything to delete that no deletion has in hand."""
    rows = await execute(connection, _LAST_DELETION, {"user_id": user_id})
    if not rows:
        return True
    if rows[0][3] is None:
        return False
    where = {"user_id": user_id, "shard": shard_of(user_id)}
    ((come_since,),) = await execute(connection, _COME_SINCE, where)
    return bool(come_since)


async def _progress(connection: Connection, user_id: int, entry_sweep: EntrySweep) -> UserDeletion:
    (row,) = await execute(connection, _LAST_DELETION, {"user_id": user_id})
    return UserDeletion(
        entry_count=row[0],
        event_count=row[1],
        create_time_ms=row[2],
        complete_time_ms=row[3],
        sweep=entry_sweep,
    )


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
