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

from core.errors import EtagMismatch, WriteConflict
from core.types import Operator, Recorded
from storage.ledger import PostgresLedger
from storage.pool import PoolUse, open_pool
from storage.settings import PostgresSettings
from tests.fakes.making import board_spec, submission
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
    async with asyncio.timeout(10):
        while True:
            (row,) = await store.execute(
                "select count(*) from pg_stat_activity where %s = any(pg_blocking_pids(pid))",
                holder.info.backend_pid,
            )
            if row[0]:
                break
            assert not task.done(), "it did not wait for the lock"
        await holder.commit()
        return await task


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

    assert await store.execute("select from entries") == []
