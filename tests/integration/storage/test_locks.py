"""Every statement that waits for a row lock, with a second session that holds it (P3).

PostgreSQL 18 drops rows from some ways to lock a partitioned table, so each of ours is watched.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg
import pytest
from pydantic import SecretStr

from core.errors import EntryNotFound, EtagMismatch, WriteConflict
from core.removal_ports import EntryDeletion
from core.types import Board, Erasure, Operator, Outcome, Recorded
from storage.exchange import Steps, Talk, run, transaction
from storage.ledger import PostgresLedger
from storage.pool import open_pool
from storage.sessions import PoolUse
from storage.settings import PostgresSettings
from tests.fakes.making import board_spec, submission, submission_id
from tests.integration.storage.conftest import Store

pytestmark = pytest.mark.both_postgres

ResultT = TypeVar("ResultT")


@asynccontextmanager
async def _holding(store: Store, statement: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A session that has run a statement and not committed it."""
    async with await psycopg.AsyncConnection.connect(store.dsn) as connection:
        await connection.execute(statement)
        yield connection


async def _while_blocked(
    store: Store, holder: psycopg.AsyncConnection, waiting: Awaitable[ResultT]
) -> ResultT:
    """Commits the holder as soon as somebody waits for it, and gives what the waiter got."""
    task = asyncio.ensure_future(waiting)
    await _blocked(store, holder, task)
    await holder.commit()
    async with asyncio.timeout(10):
        return await task


async def _blocked(
    store: Store, holder: psycopg.AsyncConnection, task: asyncio.Future[ResultT]
) -> None:
    """Waits until somebody waits for the holder, who must be there before the task is done."""
    async with asyncio.timeout(10):
        while True:
            (row,) = await store.execute(
                "select count(*) from pg_stat_activity where %s = any(pg_blocking_pids(pid))",
                holder.info.backend_pid,
            )
            if row[0]:
                break
            assert not task.done(), "it did not wait for the lock"


async def test_a_flush_that_waited_counts_on_from_the_committed_row(store: Store) -> None:
    """The awaited user is neither lost nor taken for new, and its neighbours are recorded."""
    board = await store.create(board_spec(operator=Operator.INCREMENT))
    await store.record(board, *(submission(user, 10) for user in (5, 21, 23, 40)))
    other = "update entries set score = 100, revision = revision + 1 where user_id = 21"

    async with _holding(store, other) as holder:
        batch = [submission(user, 1) for user in (40, 23, 21, 5)]
        results = await _while_blocked(store, holder, store.record(board, *batch))

    scores = [r.entry.score for r in results if isinstance(r, Recorded) and r.entry is not None]
    assert scores == [11, 11, 101, 11]
    rows = await store.execute("select user_id, revision from entries order by 1")
    assert rows == [(5, 2), (21, 3), (23, 2), (40, 2)]


async def test_a_flush_waits_for_an_entry_that_is_just_being_made(store: Store) -> None:
    """Two first submissions of one user at once: the second adds to the first."""
    board = await store.create(board_spec(operator=Operator.INCREMENT))
    first = (
        "insert into entries (shard, season_no, user_id, score, subscore, arrival, revision, "
        "submission_count, achieve_time, update_time, state, outcome, batch_place) "
        f"values (5, {board.season.number}, 5, 7, 0, 1, 1, 1, now(), now(), 0, 1, 1)"
    )

    async with _holding(store, first) as holder:
        (result,) = await _while_blocked(store, holder, store.record(board, submission(5, 1)))

    assert isinstance(result, Recorded)
    assert result.entry is not None
    assert result.entry.score == 8
    assert await store.execute("select revision from entries") == [(2,)]


async def test_flushes_in_opposite_orders_do_not_deadlock(store: Store) -> None:
    """Locks are taken in one order, whatever order the submissions have."""
    board = await store.create(board_spec(operator=Operator.INCREMENT))
    users = list(range(1, 200))

    async def send(order: list[int]) -> list[Recorded]:
        results = []
        for _ in range(5):
            results += await store.record(board, *(submission(user, 1) for user in order))
        return [result for result in results if isinstance(result, Recorded)]

    taken = await asyncio.gather(send(users), send(users[::-1]), send(users[50:] + users[:50]))

    assert [len(results) for results in taken] == [5 * 199] * 3
    (row,) = await store.execute("select min(score), max(score) from entries")
    assert row == (15, 15)


async def test_a_hot_row_fails_alone_after_the_lock_timeout(
    store: Store, postgres_settings: PostgresSettings
) -> None:
    """Who waits too long for one row is told to come again; the batch around it is taken."""
    board = await store.create(board_spec())
    await store.record(board, submission(1, 1))
    impatient = postgres_settings.model_copy(
        update={"lock_timeout_ms": 50, "dsn": SecretStr(store.dsn)}
    )

    async with (
        _holding(store, "update entries set score = 2") as holder,
        open_pool(impatient, store.dsn, PoolUse.WRITE) as pool,
    ):
        store.ledger = PostgresLedger(impatient, write=pool, read=pool)
        results = await store.record(board, *(submission(user, 5) for user in (1, 2, 3)))
        await holder.rollback()

    assert [type(result) for result in results] == [WriteConflict, Recorded, Recorded]


async def test_a_board_update_that_waited_meets_the_committed_version(store: Store) -> None:
    """An etag that was right when the call began is refused if it no longer is."""
    board = await store.create(board_spec())
    other = "update boards set title = 'theirs', version = version + 1"

    async with _holding(store, other) as holder:
        mine = store.boards.update("board", {"title": "mine"}, etag=board.etag)
        with pytest.raises(EtagMismatch):
            await _while_blocked(store, holder, mine)

    assert (await store.boards.get("board")).spec.title == "theirs"


async def test_a_board_delete_that_waited_ends_its_season(store: Store) -> None:
    """Deleting behind an update ends the board and the season, once."""
    await store.create(board_spec())

    async with _holding(store, "update boards set title = 'theirs'") as holder:
        deleted = await _while_blocked(store, holder, store.boards.delete("board", etag=""))

    assert deleted.spec.title == "theirs"
    (row,) = await store.execute(
        "select delete_time is not null, ends_at <= now() from boards join seasons using (board_no)"
    )
    assert row == (True, True)


async def test_a_purge_that_waited_removes_the_row_it_waited_for(store: Store) -> None:
    """The entry that somebody was still changing is gone as well, or left for the next run."""
    board = await store.create(board_spec())
    await store.record(board, *(submission(user, 1) for user in (5, 21, 37)))
    season = board.season.number

    async with _holding(store, "update entries set score = 2 where user_id = 21") as holder:
        await _while_blocked(store, holder, store.retention.purge(season, 5))
    await store.retention.purge(season, 5)

    assert await store.execute("select 1 from entries") == []


def _deletion(board: Board, id_: str = "") -> EntryDeletion:
    return EntryDeletion(id_ or submission_id(), board.season, 21, b"digest")


async def test_a_deletion_that_waited_deletes_the_committed_entry(store: Store) -> None:
    """What is told and kept is the entry as somebody else has left it."""
    board = await store.create(board_spec())
    await store.record(board, *(submission(user, 1) for user in (5, 21, 37)))
    other = "update entries set score = 9, revision = revision + 1 where user_id = 21"

    async with _holding(store, other) as holder:
        removed = await _while_blocked(store, holder, store.removal.delete_entry(_deletion(board)))

    assert removed.deleted is not None
    assert removed.deleted.score == 9
    rows = await store.execute("select user_id, state, revision from entries order by 1")
    assert rows == [(5, 0, 1), (21, 1, 3), (37, 0, 1)]


async def test_a_deletion_that_waited_for_another_one_finds_nothing(store: Store) -> None:
    """The entry is gone by then, and nothing is stored."""
    board = await store.create(board_spec())
    await store.record(board, submission(21, 1))
    other = "update entries set state = 1, revision = revision + 1"

    async with _holding(store, other) as holder:
        with pytest.raises(EntryNotFound):
            await _while_blocked(store, holder, store.removal.delete_entry(_deletion(board)))

    assert await store.execute("select revision from entries") == [(2,)]
    assert await store.execute("select count(*) from score_events") == [(1,)]


async def test_the_same_deletion_twice_at_once_is_one(store: Store) -> None:
    """Whichever comes second is told what the first one did."""
    board = await store.create(board_spec())
    await store.record(board, submission(21, 1))
    deletion = _deletion(board, submission_id())

    # Held by a third, so that both wait side by side.
    async with _holding(store, "update entries set score = score") as holder:
        removed = await _while_blocked(
            store,
            holder,
            asyncio.gather(*(store.removal.delete_entry(deletion) for _ in range(2))),
        )

    assert sorted(item.outcome for item in removed) == [Outcome.APPLIED, Outcome.DUPLICATE]
    assert [item.deleted.score for item in removed if item.deleted] == [1, 1]
    assert await store.execute("select state, revision from entries") == [(1, 2)]


async def test_a_twin_that_commits_the_deletion_first_is_found(store: Store) -> None:
    """Its event comes in between: the transaction runs again and tells of a duplicate."""
    board = await store.create(board_spec())
    await store.record(board, submission(21, 1))
    deletion = _deletion(board, submission_id())
    twin = (
        "insert into score_events (id, user_id, season_no, operator, score, subscore, outcome, "
        "prev_score, prev_subscore, prev_achieve_time, revision, digest) values "
        f"('{deletion.submission_id}', 21, {board.season.number}, 5, 0, 0, 1, 4, 0, now(), 2, "
        "'digest')"
    )

    async with _holding(store, twin) as holder:
        removed = await _while_blocked(store, holder, store.removal.delete_entry(deletion))

    assert removed.outcome is Outcome.DUPLICATE
    assert removed.deleted is not None
    assert removed.deleted.score == 4
    assert await store.execute("select state, revision from entries") == [(0, 1)]


async def test_a_hiding_that_waited_hides_the_committed_entry(store: Store) -> None:
    """The awaited row is not passed over, and its neighbours are hidden as well."""
    boards = [await store.create(board_spec(f"b{number}")) for number in range(3)]
    for board in boards:
        await store.record(board, submission(21, 1, board_id=board.spec.board_id))
    middle = boards[1].season.number
    other = f"update entries set score = 9, revision = revision + 1 where season_no = {middle}"

    async with _holding(store, other) as holder:
        hiding = await _while_blocked(store, holder, store.removal.hide(21, None))

    assert hiding.sweep.entry_count == 3
    rows = await store.execute("select state, score, revision from entries order by season_no")
    assert rows == [(2, 1, 2), (2, 9, 3), (2, 1, 2)]


async def test_a_hiding_that_waited_passes_over_what_is_deleted(store: Store) -> None:
    """A tombstone stays one."""
    board = await store.create(board_spec())
    await store.record(board, submission(21, 1))
    other = "update entries set state = 1, revision = revision + 1"

    async with _holding(store, other) as holder:
        hiding = await _while_blocked(store, holder, store.removal.hide(21, None))

    assert (hiding.sweep.entry_count, hiding.sweep.changes) == (0, {})
    assert await store.execute("select state, revision from entries") == [(1, 2)]


async def test_a_user_deletion_that_waited_takes_the_committed_entry(store: Store) -> None:
    """Whatever the row has become, its content goes."""
    boards = [await store.create(board_spec(f"b{number}")) for number in range(3)]
    for board in boards:
        await store.record(board, submission(21, 1, board_id=board.spec.board_id))
    middle = boards[1].season.number
    other = f"update entries set state = 2, revision = revision + 1 where season_no = {middle}"

    async with _holding(store, other) as holder:
        deletion = await _while_blocked(store, holder, store.removal.delete_user(21, Erasure.ERASE))

    assert deletion.entry_count == 3
    rows = await store.execute("select state, score, revision from entries order by season_no")
    assert rows == [(1, 0, 2), (1, 0, 3), (1, 0, 2)]


async def test_a_hiding_that_waited_leaves_alone_what_is_hidden_by_then(store: Store) -> None:
    """Somebody else has hidden the entry: to turn its state round would show it again."""
    board = await store.create(board_spec())
    await store.record(board, submission(21, 1))
    other = "update entries set state = 2, revision = revision + 1"

    async with _holding(store, other) as holder:
        hiding = await _while_blocked(store, holder, store.removal.hide(21, None))

    assert (hiding.sweep.entry_count, hiding.sweep.changes) == (0, {})
    assert await store.execute("select state, revision from entries") == [(2, 2)]


async def test_a_user_deletion_that_waited_leaves_alone_what_is_buried_by_then(
    store: Store,
) -> None:
    """A tombstone without content has none to lose."""
    board = await store.create(board_spec())
    await store.record(board, submission(21, 1))
    other = (
        "update entries set state = 1, outcome = 1, revision = revision + 1, achieve_time = 'epoch'"
    )

    async with _holding(store, other) as holder:
        deletion = await _while_blocked(store, holder, store.removal.delete_user(21, Erasure.ERASE))

    assert (deletion.entry_count, deletion.sweep.changes) == (0, {})
    assert await store.execute("select state, revision from entries") == [(1, 2)]


async def test_a_last_look_stands_in_line_with_decisions(store: Store) -> None:
    """Otherwise it would do what was decided before, and strike out the look after it."""
    board = await store.create(board_spec())
    await store.record(board, submission(21, 1))
    await store.removal.hide(21, None)
    await store.execute("update user_sweeps set fence = '3'")
    restoration = (
        "select pg_advisory_xact_lock(hashtextextended('removal', 21));"
        "delete from user_marks;"
        "update entries set state = 0, revision = revision + 1;"
        "update user_sweeps set seen_time = null, fence = null"
    )

    async with _holding(store, restoration) as holder:
        await _while_blocked(store, holder, store.unfinished.sweep(21))

    assert await store.execute("select state, revision from entries") == [(0, 3)]
    assert await store.execute("select user_id, fence from user_sweeps") == [(21, None)]


async def test_one_user_is_gone_through_at_a_time(store: Store) -> None:
    """A decision about another one is stored meanwhile, and submissions go on."""
    board = await store.create(board_spec())
    await store.record(board, *(submission(user, 1) for user in (5, 21)))

    async with _holding(store, "select from entries where user_id = 21 for update") as holder:
        first = asyncio.ensure_future(store.removal.hide(21, None))
        await _blocked(store, holder, first)
        second = asyncio.ensure_future(store.removal.hide(5, None))
        async with asyncio.timeout(10):
            while not await store.execute("select 1 from user_marks where user_id = 5"):
                pass
        done, _ = await asyncio.wait([second], timeout=0.5)
        recorded = await store.record(board, submission(37, 1))
        await holder.commit()
        hidings = await asyncio.gather(first, second)

    assert not done
    assert isinstance(recorded[0], Recorded)
    assert [hiding.sweep.entry_count for hiding in hidings] == [1, 1]


async def test_decisions_about_one_user_stand_in_line(store: Store) -> None:
    """The second one sees what the first has decided, and not what was there when it began."""
    board = await store.create(board_spec())
    await store.record(board, submission(21, 1))
    first = (
        "select pg_advisory_xact_lock(hashtextextended('removal', 21));"
        "insert into user_marks (user_id, board_no, mark) values (21, 0, 1);"
        "update entries set state = 2, revision = revision + 1"
    )

    async with _holding(store, first) as holder:
        restored = await _while_blocked(store, holder, store.removal.restore(21, None))

    assert (restored.changed, restored.sweep.entry_count) == (True, 1)
    assert await store.execute("select state, revision from entries") == [(0, 3)]


async def test_a_flush_that_waited_for_a_hiding_leaves_the_entry_hidden(store: Store) -> None:
    """Its snapshot lacks the mark, but the row under its lock is hidden and stands."""
    board = await store.create(board_spec(operator=Operator.INCREMENT))
    await store.record(board, submission(21, 1))
    hiding = (
        "insert into user_marks (user_id, board_no, mark) values (21, 0, 1);"
        "update entries set state = 2, revision = revision + 1"
    )

    async with _holding(store, hiding) as holder:
        (result,) = await _while_blocked(store, holder, store.record(board, submission(21, 1)))

    assert isinstance(result, Recorded)
    assert await store.execute("select state, score, revision from entries") == [(2, 2, 3)]


async def test_a_flush_that_waited_names_the_transaction_it_waited_for(store: Store) -> None:
    """Where it changes nothing, what it tells of is the work of the one before it."""
    board = await store.create(board_spec(operator=Operator.SET))
    await store.record(board, submission(21, 1))
    other = "update entries set score = 9, changed_xid = pg_current_xact_id()"

    async with _holding(store, other) as holder:
        xid = await holder.execute("select pg_current_xact_id()::text::bigint")
        mine = store.record_one(board, submission(21, 9))
        told = await _while_blocked(store, holder, mine)

    assert (told.outcome, [(told.xid,)]) == (Outcome.UNCHANGED, await xid.fetchall())


async def test_an_erasure_that_waited_erases_once(store: Store) -> None:
    """Two runners of the job at once: the second goes on behind the first."""
    board = await store.create(board_spec())
    await store.record(board, submission(21, 1))
    await store.removal.delete_user(21, Erasure.ERASE)
    await store.execute("delete from user_sweeps")

    async with _holding(store, "select from score_events where user_id = 21 for update") as holder:
        both = asyncio.gather(*(store.unfinished.erase() for _ in range(2)))
        steps = await _while_blocked(store, holder, both)

    assert sorted(steps) == [False, True]
    assert await store.execute("select event_count from user_deletions") == [(1,)]
    assert await store.execute("select user_id from score_events") == [(0,)]


async def test_a_flush_whose_backend_dies_on_the_way_is_recorded_by_another(store: Store) -> None:
    """It learns so at once, and its ids make the second run harmless."""
    board = await store.create(board_spec(operator=Operator.INCREMENT))
    await store.record_one(board, submission(5, 10))

    async with _holding(store, "update entries set score = 100 where user_id = 5") as holder:
        task = asyncio.ensure_future(store.record(board, submission(5, 1), submission(6, 1)))
        await _blocked(store, holder, task)
        await store.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where %s = any("
            "pg_blocking_pids(pid))",
            holder.info.backend_pid,
        )
        await holder.rollback()
        async with asyncio.timeout(5):
            results = await task

    assert [r.outcome for r in results if isinstance(r, Recorded)] == [Outcome.APPLIED] * 2
    assert await store.execute("select score from entries order by user_id") == [(11,), (1,)]


def _locking_both(talk: Talk) -> Steps[None]:
    """A transaction that takes two entries, one after the other."""

    def steps() -> Steps[None]:
        talk.command(b"begin")
        for user in (b"5", b"6"):
            talk.command(b"update entries set score = 1 where user_id = " + user)
        talk.sync()
        for _ in range(3):
            yield from talk.done()
        yield from talk.synced()

    return transaction(talk, steps(), lambda nothing: nothing)


async def test_an_exchange_that_is_cancelled_holds_no_lock(store: Store) -> None:
    """Its connection is given up, with its transaction, while what it waited for still waits."""
    board = await store.create(board_spec(operator=Operator.INCREMENT))
    await store.record(board, submission(5, 10), submission(6, 10))

    async with (
        _holding(store, "update entries set score = 100 where user_id = 6") as holder,
        await psycopg.AsyncConnection.connect(store.dsn, autocommit=True) as connection,
    ):
        task = asyncio.ensure_future(run(connection, _locking_both))
        await _blocked(store, holder, task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connection.closed
        async with asyncio.timeout(5):
            await store.record_one(board, submission(5, 1))
        await holder.rollback()

    assert await store.execute("select score from entries order by user_id") == [(11,), (10,)]
