"""Users hidden and deleted: what PostgreSQL holds after each step."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import psycopg
import pytest

from core.errors import (
    LedgerUnavailable,
    SubmissionIdReused,
    UserBeingDeleted,
    WriteConflict,
)
from core.types import Board, Erasure, Operator, Outcome, Recorded
from jobs.finish_removals import FinishRemovals
from storage.entry_sweeps import Swept, bury, look
from storage.pool import Connection, open_pool
from storage.sessions import PoolUse
from storage.unfinished_removals import PostgresUnfinishedRemovals
from tests.fakes.making import board_spec, submission, submission_id
from tests.integration.storage.conftest import Store

pytestmark = pytest.mark.every_way

USER = 21


async def _states(store: Store, user_id: int = USER) -> list[tuple[object, ...]]:
    return await store.execute(
        "select season_no, state from entries where user_id = %s order by 1", user_id
    )


async def _finish(store: Store) -> None:
    """Lets the job come to its end, as if the time it waits were over."""
    job = FinishRemovals(store.unfinished)
    async with asyncio.timeout(30):
        while await store.execute(
            "select user_id from user_sweeps union "
            "select user_id from user_deletions where complete_time is null"
        ):
            await job()
            await store.execute("update user_sweeps set seen_time = seen_time - interval '1 hour'")


async def _board(store: Store, board_id: str, *submissions: tuple[int, int]) -> Board:
    board = await store.create(board_spec(board_id, operator=Operator.INCREMENT))
    for user_id, score in submissions:
        await store.record_one(board, submission(user_id, score, board_id=board_id))
    return board


async def test_hiding_everywhere_holds_for_old_and_new_boards(store: Store) -> None:
    """Entries there are, entries to come, and entries of boards to come."""
    old = await _board(store, "old", (USER, 5), (22, 5))
    other = await _board(store, "other")

    hiding = await store.removal.hide(USER, None)
    await store.record_one(old, submission(USER, 1, board_id="old"))
    await store.record_one(other, submission(USER, 1, board_id="other"))
    new = await _board(store, "new", (USER, 1), (22, 1))

    assert (hiding.changed, hiding.still_hidden, hiding.sweep.entry_count) == (True, True, 1)
    assert await _states(store) == [(b.season.number, 2) for b in (old, other, new)]
    assert await _states(store, 22) == [(old.season.number, 0), (new.season.number, 0)]


async def test_hiding_on_one_board_holds_there_alone(store: Store) -> None:
    """And comes again with an entry that is deleted and made anew."""
    one = await _board(store, "one", (USER, 5))
    two = await _board(store, "two", (USER, 5))

    await store.removal.hide(USER, one)
    await store.delete_entry(one, USER)
    await store.record_one(one, submission(USER, 1, board_id="one"))

    assert await _states(store) == [(one.season.number, 2), (two.season.number, 0)]


async def test_each_hiding_is_taken_back_by_itself(store: Store) -> None:
    """What another one covers stays hidden, and the answer says so."""
    one = await _board(store, "one", (USER, 5))
    two = await _board(store, "two", (USER, 5))
    await store.removal.hide(USER, one)
    await store.removal.hide(USER, None)

    everywhere = await store.removal.restore(USER, None)
    between = await _states(store)
    board = await store.removal.restore(USER, one)

    assert (everywhere.still_hidden, everywhere.sweep.entry_count) == (True, 1)
    assert between == [(one.season.number, 2), (two.season.number, 0)]
    assert (board.changed, board.still_hidden, board.sweep.entry_count) == (True, False, 1)
    assert await _states(store) == [(one.season.number, 0), (two.season.number, 0)]


async def test_hiding_again_changes_nothing_and_names_the_last_change(store: Store) -> None:
    """A retry whose first answer was lost learns what to look for in the index."""
    board = await _board(store, "board", (USER, 5))
    first = await store.removal.hide(USER, None)
    (xid,) = first.sweep.changes

    again = await store.removal.hide(USER, None)

    assert not again.changed
    assert (again.sweep.entry_count, again.sweep.changes) == (0, {})
    assert again.sweep.earlier == [(board.season.number, xid)]
    assert not (await store.removal.restore(USER, board)).changed


async def test_a_user_with_very_many_entries_is_hidden_by_parts(store: Store) -> None:
    """Each part is a transaction of its own, announced by itself."""
    board = await _board(store, "board", (USER, 5))
    await store.execute(
        "insert into boards (board_id, title, sort_order, subscore_sort_order, operator, "
        "client_writes) select 'b' || n, '', 1, 1, 1, false from generate_series(1, 1100) n"
    )
    await store.execute(
        "insert into seasons (board_no, season_id, starts_at) "
        "select board_no, 's1', now() from boards where board_no <> %s",
        board.number,
    )
    await store.execute(
        "insert into entries (shard, season_no, user_id, score, subscore, arrival, revision, "
        "submission_count, achieve_time, update_time, state, outcome, batch_place) "
        "select 5, season_no, 21, 1, 0, 1, 1, 1, now(), now(), 0, 1, 1 from seasons "
        "where board_no <> %s",
        board.number,
    )

    hiding = await store.removal.hide(USER, None)
    deletion = await store.removal.delete_user(USER, Erasure.ERASE)

    assert hiding.sweep.entry_count == 1101
    assert [len(items) for items in hiding.sweep.changes.values()] == [1000, 101]
    assert deletion.entry_count == 1101
    assert len(deletion.sweep.changes) == 2
    rows = await store.execute("select state, revision, count(*) from entries group by 1, 2")
    assert rows == [(1, 3, 1101)]
    assert await store.execute(
        "select count(*) from outbox where xid >= %s::text::xid8", str(min(hiding.sweep.changes))
    ) == [(4,)]


async def test_a_transaction_that_began_before_the_hiding_ends_hidden(store: Store) -> None:
    """It could not see the mark and commits late; the second look finds what it left."""
    board = await _board(store, "board", (22, 1))
    job = FinishRemovals(store.unfinished)
    late = (
        "insert into entries (shard, season_no, user_id, score, subscore, arrival, revision, "
        "submission_count, achieve_time, update_time, state, outcome, batch_place) "
        f"values (5, {board.season.number}, 21, 7, 0, 1, 1, 1, now(), now(), 0, 1, 1)"
    )
    async with await psycopg.AsyncConnection.connect(store.dsn) as session:
        await session.execute(late)
        await store.removal.hide(USER, None)
        for _ in range(3):
            await job()
            await store.execute("update user_sweeps set seen_time = seen_time - interval '1 hour'")
        assert await store.execute("select fence is not null from user_sweeps") == [(True,)]
        await session.commit()
    assert await _states(store) == [(board.season.number, 0)]

    await _finish(store)

    assert await _states(store) == [(board.season.number, 2)]
    assert await store.execute("select season_no, user_id from outbox order by xid desc limit 1")


async def test_a_hiding_is_not_looked_at_again_before_its_time(store: Store) -> None:
    """Statements that began before the mark may still be without a transaction id."""
    await store.removal.hide(USER, None)
    job = FinishRemovals(store.unfinished)

    await job()
    await job()

    rows = await store.execute("select seen_time is not null, fence is null from user_sweeps")
    assert rows == [(True, True)]


async def test_the_fence_is_above_every_transaction_that_runs(store: Store) -> None:
    """Also above one that began after the last that has ended."""
    await store.removal.hide(USER, None)
    await store.unfinished.due_sweeps()
    await store.execute("update user_sweeps set seen_time = seen_time - interval '1 hour'")
    async with await psycopg.AsyncConnection.connect(store.dsn) as session:
        cursor = await session.execute("select pg_current_xact_id()::text::bigint")
        (running,) = await cursor.fetchone() or (None,)

        assert await store.unfinished.due_sweeps() == []
        assert await store.unfinished.due_sweeps() == []
        rows = await store.execute("select fence::text::bigint from user_sweeps")
        assert isinstance(running, int)
        assert [row[0] for row in rows if isinstance(row[0], int)] > [running]


async def test_a_decision_in_between_makes_the_sweep_new(store: Store) -> None:
    """A look that was due before a later decision does not stand for the look after it."""
    await store.removal.hide(USER, None)
    await store.unfinished.due_sweeps()
    await store.execute("update user_sweeps set fence = '3'")
    assert await store.unfinished.due_sweeps() == [USER]
    await store.removal.restore(USER, None)

    assert await store.unfinished.sweep(USER)

    assert await store.execute("select user_id, fence from user_sweeps") == [(USER, None)]


async def _contents(store: Store) -> Sequence[tuple[object, ...]]:
    return await store.execute(
        "select user_id, operator, score, subscore, prev_score, prev_achieve_time is null, "
        "new_score, new_achieve_time is null, new_arrival is null "
        "from score_events order by record_time, id"
    )


async def test_an_erased_user_leaves_no_trace_but_tombstones(store: Store) -> None:
    """Neither entries, hidden and deleted ones included, nor submissions, nor marks."""
    board = await _board(store, "board", (USER, 5), (USER, 6), (22, 3))
    two = await _board(store, "two", (USER, 5))
    bounded = await store.create(board_spec("bounded", max_score=1))
    await store.record_one(bounded, submission(USER, 5, board_id="bounded"))
    await store.delete_entry(two, USER)
    await store.removal.hide(USER, board)

    begun = await store.removal.delete_user(USER, Erasure.ERASE)
    under_way = await store.removal.delete_user(USER, Erasure.ERASE)
    await _finish(store)
    done = await store.removal.delete_user(USER, Erasure.ERASE)

    assert (begun.entry_count, begun.event_count, begun.complete_time_ms) == (1, 0, None)
    assert replace(under_way, sweep=begun.sweep) == begun
    assert (done.entry_count, done.event_count) == (1, 5)
    assert done.complete_time_ms is not None
    rows = await store.execute(
        "select distinct state, score, subscore, arrival, submission_count, metadata, prev_score, "
        "extract(epoch from achieve_time)::int from entries where user_id = 21"
    )
    assert rows == [(1, 0, 0, 0, 0, None, None, 0)]
    assert await store.execute("select 1 from score_events where user_id = 21") == []
    assert await store.execute("select 1 from user_marks") == []
    erased = [row for row in await _contents(store) if row[0] == 0]
    assert {row[2:] for row in erased} == {(0, 0, None, True, None, True, True)}
    assert len(erased) == 5
    assert [row[0] for row in await _contents(store) if row[0]] == [22]


async def test_an_anonymized_user_leaves_scores_under_no_user(store: Store) -> None:
    """For statistics; nothing else tells whose they were."""
    await _board(store, "board", (USER, 5), (USER, 6))

    await store.removal.delete_user(USER, Erasure.ANONYMIZE)
    await _finish(store)

    rows = await store.execute("select user_id, score, prev_score, new_score from score_events")
    assert sorted(rows, key=str) == [(0, 5, None, 5), (0, 6, 5, 11)]


@pytest.mark.parametrize("erasure", Erasure)
async def test_a_late_retry_of_a_deleted_user_brings_nobody_back(
    store: Store, erasure: Erasure
) -> None:
    """It is a duplicate with its first outcome; other content under its id is still refused."""
    board = await _board(store, "board")
    first = submission(USER, 5)
    await store.record_one(board, first)
    deletion = submission_id()
    await store.delete_entry(board, USER, deletion)
    await store.removal.delete_user(USER, erasure)
    await _finish(store)

    (again,) = await store.record(board, first)
    (other,) = await store.record(board, submission(USER, 6, id=first.submission_id))
    (theirs,) = await store.record(board, submission(22, 5, id=first.submission_id))
    deleted = await store.delete_entry(board, USER, deletion)
    with pytest.raises(SubmissionIdReused):
        await store.delete_entry(board, USER, deletion, digest=b"other")

    assert isinstance(again, Recorded)
    assert (again.outcome, again.first_outcome) == (Outcome.DUPLICATE, Outcome.APPLIED)
    assert (again.entry, again.previous) == (None, None)
    assert isinstance(other, SubmissionIdReused)
    assert isinstance(theirs, SubmissionIdReused)
    assert (deleted.outcome, deleted.deleted) == (Outcome.DUPLICATE, None)
    assert await _states(store) == [(board.season.number, 1)]


async def test_no_submission_of_a_user_who_is_being_deleted_is_taken(store: Store) -> None:
    """The others of its flush are; a retry is still a duplicate; afterwards all is open again."""
    board = await _board(store, "board")
    first = submission(USER, 5)
    await store.record_one(board, first)
    await store.removal.delete_user(USER, Erasure.ERASE)
    refused = submission(USER, 6)

    results = await store.record(board, submission(1, 1), refused, first, submission(2, 1))
    await _finish(store)
    late = await store.record_one(board, refused)

    assert isinstance(results[1], UserBeingDeleted)
    assert [r.outcome for r in results if isinstance(r, Recorded)] == [
        Outcome.APPLIED,
        Outcome.DUPLICATE,
        Outcome.APPLIED,
    ]
    assert late.entry is not None
    assert (late.entry.score, late.entry.submission_count, late.previous) == (6, 1, None)


@pytest.mark.parametrize("score", [1, 5], ids=["taken", "rejected"])
async def test_what_comes_after_a_deletion_is_deleted_by_the_next(store: Store, score: int) -> None:
    """A call that finds something new begins again, and one that does not tells the last."""
    board = await store.create(board_spec(max_score=3))
    await store.record_one(board, submission(USER, 2))
    await store.removal.delete_user(USER, Erasure.ERASE)
    await _finish(store)
    first = await store.removal.delete_user(USER, Erasure.ERASE)
    await store.record_one(board, submission(USER, score))

    second = await store.removal.delete_user(USER, Erasure.ERASE)
    await _finish(store)

    assert first.complete_time_ms is not None
    assert second.complete_time_ms is None
    assert await store.execute("select entry_count, event_count from user_deletions") == [
        (1, 1),
        (score // 2 == 0, 1),
    ]
    assert await store.execute("select 1 from score_events where user_id <> 0") == []


async def test_a_submission_that_began_before_the_deletion_is_erased_as_well(store: Store) -> None:
    """It could not see the mark; its entry and its event come late and go with the rest."""
    board = await _board(store, "board", (USER, 5))
    late = (
        "insert into score_events (id, user_id, season_no, operator, score, subscore, outcome, "
        f"revision, digest) values ('{submission_id()}', 21, {board.season.number}, 0, 9, 0, 1, 9,"
        " 'x'); insert into entries (shard, season_no, user_id, score, subscore, arrival, "
        "revision, submission_count, achieve_time, update_time, state, outcome, batch_place) "
        "values (5, 999, 21, 7, 0, 1, 1, 1, now(), now(), 0, 1, 1)"
    )
    await store.execute(
        "insert into seasons (season_no, board_no, season_id, starts_at, ends_at) overriding "
        "system value values (999, %s, 's2', now() - interval '2 days', now() - interval '1 day')",
        board.number,
    )
    job = FinishRemovals(store.unfinished)
    async with await psycopg.AsyncConnection.connect(store.dsn) as session:
        await session.execute(late)
        await store.removal.delete_user(USER, Erasure.ERASE)
        for _ in range(3):
            await job()
            await store.execute("update user_sweeps set seen_time = seen_time - interval '1 hour'")
        await session.commit()
    await _finish(store)

    assert await store.execute("select entry_count, event_count from user_deletions") == [(2, 2)]
    assert await _states(store) == [(board.season.number, 1), (999, 1)]
    assert await store.execute("select 1 from score_events where user_id <> 0") == []


async def test_an_erasure_goes_on_where_it_was_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stretch by stretch, many users in one pass, and who comes later in the next."""
    monkeypatch.setattr("storage.unfinished_removals._EVENTS_PER_STRETCH", 7)
    board = await _board(store, "board")
    for _ in range(10):
        await store.record(board, *(submission(user, 1) for user in (1, 2, 3)))
    await store.removal.delete_user(1, Erasure.ERASE)
    await store.removal.delete_user(2, Erasure.ANONYMIZE)
    await store.execute("delete from user_sweeps")
    assert not await store.unfinished.erase()
    assert not await store.unfinished.erase()
    await store.removal.delete_user(3, Erasure.ERASE)
    await store.execute("delete from user_sweeps")

    steps = 0
    while not await store.unfinished.erase():
        steps += 1

    assert steps == 3 + 5
    assert await store.execute(
        "select user_id, event_count, complete_time is not null from user_deletions order by 1"
    ) == [(1, 10, True), (2, 10, True), (3, 10, True)]
    assert await store.execute("select user_id, sum(score) from score_events group by 1") == [
        (0, 10)
    ]


async def test_entries_of_deleted_boards_are_deleted_too(store: Store) -> None:
    """As long as they are there; once they are purged, a new call looks at submissions again."""
    await _board(store, "board", (USER, 5))
    await store.boards.delete("board", etag="")

    first = await store.removal.delete_user(USER, Erasure.ERASE)
    await _finish(store)
    again = await _board(store, "again", (USER, 5))
    await store.boards.delete("again", etag="")
    await store.retention.purge(again.season.number, 5)
    await store.retention.mark_purged(again.season.number)
    second = await store.removal.delete_user(USER, Erasure.ERASE)
    await _finish(store)

    assert (first.entry_count, dict(first.sweep.changes)) == (1, {})
    assert second.complete_time_ms is None
    assert await store.execute("select 1 from score_events where user_id <> 0") == []


@pytest.mark.parametrize("act", ["hide", "delete"])
async def test_the_job_goes_on_where_a_worker_died(
    store: Store, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """A user's entries were done in part; the rest follows without another call."""
    monkeypatch.setattr("storage.entry_sweeps._SEASONS_MAX", 2)
    for number in range(5):
        await _board(store, f"b{number}", (USER, 5))

    async def die(connection: Connection, user_id: int, *, after: int) -> Swept:
        if after:
            raise LedgerUnavailable
        return await look(connection, user_id, after=after)

    monkeypatch.setattr("storage.removal.look", die)
    removal = (
        store.removal.hide(USER, None)
        if act == "hide"
        else store.removal.delete_user(USER, Erasure.ERASE)
    )
    with pytest.raises(LedgerUnavailable):
        await removal
    before = await store.execute("select count(*) from entries where state = 0")
    await _finish(store)

    assert before == [(3,)]
    rows = await store.execute("select state, revision, count(*) from entries group by 1, 2")
    assert rows == [(2 if act == "hide" else 1, 2, 5)]
    if act == "delete":
        assert await store.execute("select entry_count, event_count from user_deletions") == [
            (5, 5)
        ]


async def test_a_user_who_is_locked_holds_up_no_other(store: Store) -> None:
    """The job says that it has to come again, and has done the rest."""
    board = await _board(store, "board")
    await store.removal.hide(1, None)
    await store.removal.hide(2, None)
    await store.execute(
        "insert into entries (shard, season_no, user_id, score, subscore, arrival, revision, "
        "submission_count, achieve_time, update_time, state, outcome, batch_place) "
        "select u, %s, u, 7, 0, 1, 1, 1, now(), now(), 0, 1, 1 from generate_series(1, 2) u",
        board.season.number,
    )
    await store.execute("update user_sweeps set fence = '3'")
    # Past the pooler, whose sessions are set already.
    update = {"lock_timeout_ms": 50, "transaction_pooler": False}
    impatient = store.settings.model_copy(update=update)

    async with (
        await psycopg.AsyncConnection.connect(store.dsn) as session,
        open_pool(impatient, store.dsn, PoolUse.JOBS) as pool,
    ):
        await session.execute("select 1 from entries where user_id = 1 for update")
        with pytest.raises(WriteConflict):
            await FinishRemovals(PostgresUnfinishedRemovals(impatient, pool))()

    assert await _states(store, 1) == [(board.season.number, 0)]
    assert await _states(store, 2) == [(board.season.number, 2)]
    await _finish(store)
    assert await _states(store, 1) == [(board.season.number, 2)]


async def test_a_look_that_comes_late_spares_what_was_submitted_since(store: Store) -> None:
    """A worker that was asleep over the end of a deletion has nothing to bury any more."""
    board = await _board(store, "board", (USER, 5))
    await store.removal.delete_user(USER, Erasure.ERASE)
    await _finish(store)
    await store.record_one(board, submission(USER, 6))

    async with store.pool.connection() as connection:
        await bury(connection, USER, after=0)

    assert await _states(store) == [(board.season.number, 0)]
