"""Standbys as they are met: strangers among them, conflicts with replay, promotions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.waiting import until
from bootstrap.replicas import Database, open_database
from core.clock import SystemClock
from core.errors import LedgerUnavailable
from core.ports import Freshness, KeyRange
from core.snapshots import Snapshot
from core.types import Board, Source
from resilience.breaker import State
from resilience.breakers import Breakers
from storage import metrics
from storage.guarding import POSTGRES_BREAKERS, replica_breakers
from storage.history import FOLLOWED_LEDGER, LEDGER
from storage.pool import Row, open_pool
from storage.rank_reads import PostgresIndex
from storage.rank_sources import Instant
from storage.rank_writes import Writes
from storage.replica_reads import Limits, ReplicaReads, Target
from storage.replicas import Replica
from storage.sessions import PoolUse
from storage.settings import PostgresSettings
from storage.statement import Statement
from tests.fakes.making import board_spec, submission
from tests.fakes.snapshot_making import HeldSnapshots
from tests.fixtures.standby import Standby, StartStandby

pytestmark = pytest.mark.both_postgres

ONE = Statement.of("select 1")
SLOW = Statement.of("select count(*), pg_sleep(20) from boards")


@asynccontextmanager
async def opened(
    breakers: Breakers | None, primary: str, *replicas: str
) -> AsyncIterator[Database]:
    """A primary and what is named as its replicas, looked at once a second."""
    settings = PostgresSettings(
        dsn=SecretStr(primary),
        replica_dsns=tuple(map(SecretStr, replicas)),
        read_timeout_ms=20_000,
    )
    breakers = breakers or made_breakers(len(replicas))
    async with (
        open_pool(settings, primary, PoolUse.READ, breakers) as read,
        open_database(settings, read, breakers, SystemClock()) as database,
    ):
        yield database


def made_breakers(replicas: int) -> Breakers:
    """Those of a worker with so many replicas."""
    rules = {**POSTGRES_BREAKERS, **replica_breakers(replicas)}
    return Breakers(rules, rng=random.Random(1))


@pytest.fixture(autouse=True)
async def plain(store: Any) -> AsyncIterator[None]:
    """A role without rights beyond its own tables, of which it has none."""
    await store.execute("create role plain login password 'plain'")
    yield
    await store.execute("drop role plain")


async def is_used(replica: Replica) -> bool:
    """Whether reads may go there."""
    return replica.lag_s < 2.5


async def is_unused(replica: Replica) -> bool:
    """Whether none may."""
    return replica.lag_s == float("inf")


async def scalar(server: EmbeddedPostgres, dsn: str, text: str) -> Any:
    """The value of a statement on the database of a dsn, on another server."""
    async with await psycopg.AsyncConnection.connect(
        server.dsn_of(dsn.rpartition("/")[2]), autocommit=True
    ) as connection:
        [(value,)] = await (await connection.execute(text)).fetchall()
        return value


async def test_a_standby_names_the_ledger_as_its_primary_does(
    database: str, postgres: EmbeddedPostgres, standby: Standby
) -> None:
    """What a snapshot is of, either can tell."""
    await standby.follow()

    named = await scalar(postgres, database, f"select {LEDGER}")
    assert await scalar(standby.server, database, f"select {FOLLOWED_LEDGER}") == named


async def test_only_standbys_of_the_primary_are_asked(
    database: str, postgres: EmbeddedPostgres, standby: Standby, store: Any
) -> None:
    """Not the primary itself, nor another database, nor one that is not there; a standby is, by a
    role without rights beyond its own tables.
    """
    await standby.follow()
    here = standby.dsn_of(database)
    plain = make_conninfo(here, user="plain", password="plain")
    elsewhere = standby.server.dsn_of("postgres")
    nowhere = make_conninfo(here, dbname="nowhere")
    async with opened(None, database, plain, database, elsewhere, nowhere) as ours:
        known, *strangers = ours.replicas
        assert await until(partial(is_used, known), timeout_s=30)
        rows, instant = await known.rows(ONE, {}, timeout_s=10)
        assert rows == [(1,)]
        assert 0 <= SystemClock().now_ms() - instant.as_of_ms < 2_500
        for stranger in strangers:
            assert await is_unused(stranger)
            with pytest.raises(LedgerUnavailable):
                await stranger.rows(ONE, {}, timeout_s=2)
        lags = [metrics.REPLICA_LAG.labels(each.name)._value.get() for each in ours.replicas]
        assert lags[0] < 2.5
        assert lags[1:] == [float("inf")] * 3


class Conflicting:
    """A replica whose reads hold on to old rows for a while first."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def rows(
        self, statement: Statement, parameters: Mapping[str, Any], *, timeout_s: float
    ) -> tuple[list[Row], Instant]:
        """See `RankSource.rows`."""
        await self._replica.rows(SLOW, {}, timeout_s=timeout_s)
        return await self._replica.rows(statement, parameters, timeout_s=timeout_s)

    async def writes(self, snapshot: Snapshot, *, now: bool) -> Writes | None:
        """See `RankSource.writes`."""
        return await self._replica.writes(snapshot, now=now)


async def test_a_read_in_the_way_of_replay_is_the_primary_s(
    database: str, standby_faults: Standby, store: Any
) -> None:
    """PostgreSQL cancels it on the standby; its caller has the answer all the same, and the breaker
    makes nothing of it.
    """
    await standby_faults.set("max_standby_streaming_delay", "0")
    board: Board = await store.create(board_spec("arena"))
    await store.record_one(board, submission(7, 70, board_id="arena"))
    await standby_faults.follow()
    breakers = made_breakers(1)
    async with opened(breakers, database, standby_faults.dsn_of(database)) as ours:
        (replica,) = ours.replicas
        assert await until(partial(is_used, replica), timeout_s=30)
        snapshots = HeldSnapshots()
        reads = ReplicaReads(
            PostgresIndex(store.settings, ours.primary, snapshots),
            [Target(replica, PostgresIndex(store.settings, Conflicting(replica), snapshots))],
            snapshots,
            SystemClock(),
            Limits(lag_s=60, alone_s=300),
        )
        reading = asyncio.create_task(
            reads.window(
                board.season.number, b"", above=0, below=5, within=KeyRange(), fresh=Freshness()
            )
        )
        assert await until(partial(sleeps, standby_faults), timeout_s=20)

        async def vacuumed() -> bool:
            # Until nothing else of this PostgreSQL needs the old rows any more.
            await store.execute("update boards set title = title || '.'")
            await store.execute("vacuum boards")
            return reading.done()

        assert await until(vacuumed, timeout_s=15)
        window = await reading

    assert [key[-1] for key, _ in window.below] == [7]
    assert (window.view.source, window.view.snapshot_ms) == (Source.DATABASE, 0)
    assert breakers["postgres/replica-1"].report().state is State.CLOSED
    assert breakers["postgres/replica-1"].report().rates.failure_rate == 0


async def sleeps(standby: Standby) -> bool:
    """Whether the slow statement is under way."""
    [(count,)] = await standby.execute(
        "select count(*) from pg_stat_activity where state = 'active' and query ~ '^select count'"
        " and pid <> pg_backend_pid()"
    )
    return count == 1


@pytest.mark.parametrize("role", ["monitor", "plain"])
async def test_a_standby_of_the_promoted_one_is_used_again(
    role: str,
    database: str,
    postgres: EmbeddedPostgres,
    standby_faults: Standby,
    start_standby: StartStandby,
    store: Any,
) -> None:
    """While the old primary is still asked, it is on another timeline than that; asked beside the
    new one it counts as soon as it is known to have followed.
    """
    board: Board = await store.create(board_spec("arena"))
    await store.record_one(board, submission(7, 70, board_id="arena"))
    second = await start_standby(postgres)
    await second.turn_to(standby_faults.server)
    behind = second.dsn_of(database)
    await second.follow()
    if role == "plain":
        behind = make_conninfo(behind, user="plain", password="plain")
    try:
        async with opened(None, database, behind) as ours:
            assert await until(partial(is_used, ours.replicas[0]), timeout_s=30)
            await standby_faults.promote()
            if role == "plain":
                # What the control file has of the timeline it has at the latest with these.
                await standby_faults.execute("checkpoint")
                await second.follow()
                await second.execute("checkpoint")
            assert await until(partial(is_unused, ours.replicas[0]), timeout_s=30)
        async with opened(None, standby_faults.dsn_of(database), behind) as theirs:
            assert await until(partial(is_used, theirs.replicas[0]), timeout_s=30)
    finally:
        await second.server.kill()
