"""Pools behind their breakers, while PostgreSQL stands still, goes away or comes back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import psycopg
import pytest
from pydantic import SecretStr

from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.waiting import until
from core.errors import LedgerUnavailable
from resilience.breaker import Outcome, State
from resilience.breakers import Breakers
from resilience.deadline import DEADLINE_S
from storage.guarding import POSTGRES_BREAKERS, judge
from storage.pool import Connection, Pool, execute, open_pool, query
from storage.sessions import PoolUse
from storage.settings import PostgresSettings
from storage.statement import Statement
from storage.transactions import transact

ONE = Statement.of("select 1")


@pytest.fixture
def breakers() -> Breakers:
    """Those of the pools."""
    return Breakers(POSTGRES_BREAKERS, rng=random.Random(1))


@pytest.fixture
async def pool(database: str, breakers: Breakers) -> AsyncIterator[Pool]:
    """A pool for reads, with the times of production."""
    settings = PostgresSettings(dsn=SecretStr(database))
    async with open_pool(settings, database, PoolUse.READ, breakers) as pool:
        await pool.wait(10)
        yield pool


@pytest.fixture
async def write(database: str, breakers: Breakers) -> AsyncIterator[Pool]:
    """A pool for writes."""
    settings = PostgresSettings(dsn=SecretStr(database))
    async with open_pool(settings, database, PoolUse.WRITE, breakers) as pool:
        await pool.wait(10)
        yield pool


async def ask(pool: Pool, *, idempotent: bool = False) -> int:
    """A read."""
    ((one,),) = await query(pool, ONE, {}, timeout_s=0.3, idempotent=idempotent)
    return int(one)


@pytest.mark.parametrize(("seconds", "told"), [("0.1", "ended"), ("30", "cancelled")])
async def test_a_read_under_way_has_some_time_to_end(pool: Pool, seconds: str, told: str) -> None:
    """Before it is cancelled; its caller goes in time."""
    ended: asyncio.Queue[str] = asyncio.Queue()

    async def work(connection: Connection) -> None:
        try:
            await execute(connection, Statement.of(f"select pg_sleep({seconds})"), {})
        except asyncio.CancelledError:
            ended.put_nowait("cancelled")
            raise
        ended.put_nowait("ended")

    with pytest.raises(LedgerUnavailable):
        await pool.run(work, timeout_s=0.02, idempotent=False)
    assert ended.empty()
    async with asyncio.timeout(10):
        assert await ended.get() == told
    assert await ask(pool) == 1


async def test_a_server_that_stands_still_costs_its_callers_their_deadline(
    pool: Pool, breakers: Breakers, postgres_faults: EmbeddedPostgres
) -> None:
    """And 100 ms at most; after five of them callers are told at once, and when to come again. When
    it goes on a probe finds out.
    """
    assert await ask(pool) == 1

    async def ask_in_time(seconds: float) -> float:
        DEADLINE_S.set(time.monotonic() + seconds)
        began_s = time.monotonic()
        with pytest.raises(LedgerUnavailable):
            await ask(pool)
        return time.monotonic() - began_s - seconds

    postgres_faults.freeze()
    try:
        late_s = [await asyncio.create_task(ask_in_time(0.1 * n)) for n in (1, 2, 1, 2, 1)]
        assert max(late_s) < 0.1
        began_s = time.monotonic()
        with pytest.raises(LedgerUnavailable) as caught:
            await ask(pool)
        assert time.monotonic() - began_s < 0.05
        assert 1 <= caught.value.retry_after_ms <= 1200
        assert await pool.probe() is Outcome.LOST
    finally:
        postgres_faults.thaw()

    async def well() -> bool:
        return await pool.probe() is Outcome.OK

    assert await until(well, timeout_s=30)
    breakers["postgres/read"].renew()
    assert await ask(pool) == 1


async def test_connections_that_were_closed_are_not_given_out(pool: Pool, database: str) -> None:
    """Of forty calls after a restart none fails."""
    await asyncio.gather(*(ask(pool) for _ in range(20)))
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as killer:
        ours = (
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'standings-read' and datname = current_database()"
        )
        # Again and again: one that was only being made comes after the first time.
        while (await killer.execute(ours)).rowcount:
            pass
    assert await asyncio.gather(*(ask(pool, idempotent=True) for _ in range(40))) == [1] * 40


async def test_a_commit_outlives_its_caller(write: Pool, database: str) -> None:
    """A caller who is cancelled does not take back what is about to be committed."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(connection: Connection) -> None:
        await execute(connection, Statement.of("delete from outbox_trimmed"), {})
        begun.set()
        await go_on.wait()

    caller = asyncio.create_task(transact(write, work, timeout_s=5))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()

    async def committed() -> bool:
        async with await psycopg.AsyncConnection.connect(database) as connection:
            cursor = await connection.execute("select count(*) from outbox_trimmed")
            return await cursor.fetchone() == (0,)

    assert await until(committed, timeout_s=10)


async def test_an_answer_is_no_failure(write: Pool, breakers: Breakers) -> None:
    """What the database says of the data, and of a lock, says nothing of the database."""
    for statement, error in (
        ("select 1/0", psycopg.DataError),
        ("select nextval('nothing')", psycopg.ProgrammingError),
    ):
        for _ in range(25):
            with pytest.raises(error):
                await query(write, Statement.of(statement), {}, timeout_s=5)
    assert breakers["postgres/write"].state is State.CLOSED
    assert breakers["postgres/write"].counts()["neutral"] == 50


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (psycopg.errors.AdminShutdown(), Outcome.LOST),
        (psycopg.errors.ConnectionFailure(), Outcome.LOST),
        (psycopg.OperationalError("no socket"), Outcome.LOST),
        (psycopg.InterfaceError("closed"), Outcome.LOST),
        (psycopg.errors.DiskFull(), Outcome.FAILED),
        (psycopg.errors.TooManyConnections(), Outcome.FAILED),
        (psycopg.errors.QueryCanceled(), Outcome.FAILED),
        (psycopg.errors.ReadOnlySqlTransaction(), Outcome.FAILED),
        (AttributeError("of the driver"), Outcome.FAILED),
        (psycopg.errors.LockNotAvailable(), Outcome.NEUTRAL),
        (psycopg.errors.UniqueViolation(), Outcome.NEUTRAL),
        (psycopg.errors.NumericValueOutOfRange(), Outcome.NEUTRAL),
        (LedgerUnavailable(), Outcome.NEUTRAL),
    ],
)
def test_errors_are_told_apart(error: Exception, outcome: Outcome) -> None:
    """Connections that were lost, servers in trouble, and answers."""
    assert judge(error) is outcome
