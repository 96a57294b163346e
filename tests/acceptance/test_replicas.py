"""Reads go to standbys while the index is away, say how old they are, and fall back. Over the wire.

The index is out of play all the time, so that every read is the database's; the standbys are real.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.embedded.waiting import until
from standings.v1 import admin_service_pb2 as pb
from standings.v1 import admin_service_pb2_grpc as admin_grpc
from standings_client import (
    AsyncClient,
    Board,
    EntryNotFound,
    Operator,
    ReadMeta,
    RetryPolicy,
    Source,
    Staleness,
    Submission,
    Unavailable,
)
from storage import metrics
from tests.fixtures.redis import empty
from tests.fixtures.server import Serve, settings_for
from tests.fixtures.standby import Standby

pytestmark = [
    pytest.mark.alone,
    pytest.mark.timeout(240),
    pytest.mark.grpcio_only("it looks at the metrics of the test's own process"),
]

USERS = range(1, 31)
LAG_MS_MAX = 1_500
AT_ONCE = timedelta(0)
_ONE_TRY = RetryPolicy(attempt_count_max=1)
_QUICK = {"operation_timeout_s": 0.3, "read_timeout_s": 0.2, "response_timeout_s": 0.2}


@dataclass
class Deployment:
    """A server with replicas and without an index."""

    client: AsyncClient
    admin: Any
    standbys: list[Standby]
    written: list[tuple[datetime, int]] = field(default_factory=list)
    """User 1's scores, each with when it was acknowledged."""

    async def write(self, score: int) -> str:
        """Gives user 1 a score; returns the token."""
        result = await self.client.submit_score("arena", 1, score)
        self.written.append((datetime.now(UTC), score))
        return result.consistency_token

    async def read(self, **options: Any) -> tuple[int, ReadMeta]:
        """User 1's score. Whatever it claims about its age is true."""
        before = datetime.now(UTC)
        answer = await self.client.get_entry("arena", 1, **options)
        meta = answer.meta
        assert meta.as_of is not None
        least = [score for when, score in self.written if when < meta.as_of]
        assert answer.entry.score >= max(least, default=1), (meta, self.written[-3:])
        # On the wire there are whole milliseconds.
        assert meta.as_of >= before - meta.staleness - timedelta(milliseconds=2)
        return answer.entry.score, meta

    async def follow(self) -> None:
        """Returns when all standbys have everything."""
        for standby in self.standbys:
            await standby.follow()

    async def state(self, name: str) -> str:
        """How a breaker is."""
        breakers = (await self.admin.ListBreakers(pb.ListBreakersRequest())).breakers
        (state,) = [one.state for one in breakers if one.name == name]
        return pb.BreakerState.Name(state)

    async def force(self, name: str, mode: int = pb.BREAKER_MODE_FORCED_OPEN) -> None:
        """Sets a breaker."""
        await self.admin.SetBreaker(
            pb.SetBreakerRequest(name=name, mode=mode, reason="a test of replicas")
        )


@asynccontextmanager
async def deployment(
    serve: Serve, database: str, cluster: EmbeddedRedisCluster, *standbys: Standby, **changes: Any
) -> AsyncIterator[Deployment]:
    """A server on these standbys, with users 1 to 30 on a board, user n with n points."""
    await empty(cluster)
    for standby in standbys:
        await standby.follow()
    settings = settings_for(database, cluster)
    dsns = tuple(SecretStr(standby.dsn_of(database)) for standby in standbys)
    postgres = {
        "replica_dsns": dsns,
        "replica_lag_ms_max": LAG_MS_MAX,
        "read_timeout_ms": 1_000,
        "pool_timeout_s": 1.0,
        **changes,
    }
    settings = settings.model_copy(
        update={
            "postgres": settings.postgres.model_copy(update=postgres),
            "redis": settings.redis.model_copy(update=_QUICK),
            # What the primary has said of an entry would be given for half a minute.
            "reads": settings.reads.model_copy(update={"hot_entry_s": 0.0}),
        }
    )
    async with (
        serve(settings) as addresses,
        AsyncClient(addresses.public, timeout_s=10, retry_policy=_ONE_TRY) as client,
        grpc.aio.insecure_channel(addresses.admin) as channel,
    ):
        deployed = Deployment(client, admin_grpc.AdminServiceStub(channel), list(standbys))
        await client.boards.create(Board(board_id="arena", operator=Operator.SET))
        await client.batch_submit_scores([Submission("arena", user, user) for user in USERS])
        await deployed.force("redis/*")
        await deployed.follow()
        yield deployed


def reads_of(target: str) -> float:
    """How many reads a server of PostgreSQL has answered."""
    return metrics.DATABASE_READS.labels(target)._value.get()


async def answered_by(target: str, read: Callable[[], Awaitable[object]]) -> bool:
    """Whether a read is answered by that server alone."""
    others = {"primary", "replica-1", "replica-2"} - {target}
    before = reads_of(target), sum(map(reads_of, others))
    await read()
    return reads_of(target) > before[0] and sum(map(reads_of, others)) == before[1]


async def uses(deployed: Deployment, target: str) -> None:
    """Returns when reads are answered by that server."""
    assert await until(partial(answered_by, target, deployed.read), timeout_s=30), target


async def test_every_read_is_a_replica_s_without_the_index(
    database: str, redis_faults: EmbeddedRedisCluster, standby: Standby, serve: Serve
) -> None:
    """Redis is killed: all reads say DATABASE, are exact, and as old as measured."""
    async with deployment(serve, database, redis_faults, standby) as deployed:
        await deployed.force("redis/*", pb.BREAKER_MODE_AUTO)
        for node in redis_faults.nodes:
            await node.kill()
        await uses(deployed, "replica-1")
        client, before = deployed.client, reads_of("primary")

        page = await client.list_entries("arena", page_size=3)
        entry = await client.get_entry("arena", 28)
        around = await client.list_entries_around("arena", user_id=15, above=1, below=1)
        worth = await client.estimate_rank("arena", 10)
        friends = await client.batch_get_entries("arena", [30, 1])

        assert [each.user_id for each in page.entries] == [30, 29, 28]
        assert (entry.entry.rank, worth.rank) == (3, 22)
        assert [(each.rank, each.user_id) for each in around.entries] == [
            (15, 16),
            (16, 15),
            (17, 14),
        ]
        assert [each.rank for each in friends.entries] == [1, 30]
        for answer in (page, entry, around, worth, friends):
            assert answer.meta.source is Source.DATABASE
            assert answer.meta.stale
            assert AT_ONCE < answer.meta.staleness <= timedelta(milliseconds=LAG_MS_MAX)
        assert reads_of("primary") == before


async def test_an_age_is_never_told_too_low(
    database: str, redis_cluster: EmbeddedRedisCluster, standby: Standby, serve: Serve
) -> None:
    """While a user's score is written again and again and replay is paused and resumed at random,
    each answer has all that was acknowledged before the moment that it claims to be of; none of a
    replica is older than the setting allows while the primary answers.
    """
    rng = random.Random(7)
    async with deployment(serve, database, redis_cluster, standby) as deployed:
        await uses(deployed, "replica-1")
        ages: list[timedelta] = []
        over = asyncio.Event()

        async def write() -> None:
            score = 1_000
            while not over.is_set():
                score += 1
                await deployed.write(score)

        async def read() -> None:
            while not over.is_set():
                _, meta = await deployed.read()
                assert meta.source is Source.DATABASE
                ages.append(meta.staleness)

        async def meddle() -> None:
            for _ in range(4):
                await standby.pause()
                until_s = time.monotonic() + rng.uniform(0.5, 2.5)
                await until(partial(_passed, until_s), timeout_s=5)
                await standby.resume()
                await standby.follow()
                until_s = time.monotonic() + rng.uniform(0.2, 1.5)
                await until(partial(_passed, until_s), timeout_s=5)
            over.set()

        try:
            async with asyncio.timeout(90), asyncio.TaskGroup() as group:
                for work in (write, read, read, meddle):
                    group.create_task(work())
        finally:
            await standby.resume()

        assert max(ages) <= timedelta(milliseconds=LAG_MS_MAX)
        assert sum(1 for age in ages if age) > 20
        assert sum(1 for age in ages if not age) > 20
        # Beside a standby that follows, what is told is the time since the last look.
        await uses(deployed, "replica-1")
        _, meta = await deployed.read()
        assert meta.staleness < timedelta(seconds=1.5)


async def _passed(moment_s: float) -> bool:
    return time.monotonic() >= moment_s


async def test_a_quiet_primary_makes_no_replica_old(
    database: str, redis_cluster: EmbeddedRedisCluster, standby: Standby, serve: Serve
) -> None:
    """Nothing is written for three seconds, and nothing is told to be older than a look."""
    async with deployment(serve, database, redis_cluster, standby) as deployed:
        await uses(deployed, "replica-1")
        until_s = time.monotonic() + 3
        while time.monotonic() < until_s:
            _, meta = await deployed.read()
            assert AT_ONCE < meta.staleness <= timedelta(milliseconds=LAG_MS_MAX)


async def test_replay_is_paused(
    database: str, redis_cluster: EmbeddedRedisCluster, standby: Standby, serve: Serve
) -> None:
    """A token is answered by the primary, and so is who wants it fresher than the replica is, and
    who has no entry there; everybody is as soon as it is too far behind.
    """
    async with deployment(
        serve, database, redis_cluster, standby, replica_lag_ms_max=20_000
    ) as deployed:
        await uses(deployed, "replica-1")
        client = deployed.client
        await standby.pause()
        try:
            token = await deployed.write(5_000)
            await client.submit_score("arena", 424_242, 6_000)

            assert (await deployed.read())[0] == 1
            assert (await deployed.read(consistency_token=token))[0] == 5_000
            score, meta = await deployed.read(max_staleness=AT_ONCE)
            assert (score, meta.source, meta.stale) == (5_000, Source.DATABASE, False)
            page = await client.list_entries("arena", page_size=2, max_staleness=AT_ONCE)
            assert [each.user_id for each in page.entries] == [424_242, 1]
            page = await client.list_entries("arena", page_size=2)
            assert [each.user_id for each in page.entries] == [30, 29]
            assert page.meta.stale
            assert (await client.get_entry("arena", 424_242)).entry.rank == 1
            with pytest.raises(EntryNotFound):
                await client.get_entry("arena", 31)

            ages = [(await deployed.read())[1].staleness]
            until_s = time.monotonic() + 2
            while time.monotonic() < until_s:
                ages.append((await deployed.read())[1].staleness)
            assert ages[-1] - ages[0] >= timedelta(seconds=1.8)
        finally:
            await standby.resume()
        await deployed.follow()
        assert (await deployed.read())[0] == 5_000


async def test_the_primary_dies(
    database: str,
    redis_cluster: EmbeddedRedisCluster,
    postgres_faults: EmbeddedPostgres,
    standby: Standby,
    serve: Serve,
) -> None:
    """Reads go on from the replica and say that they get older, past the bound; who wants them
    fresh hears STALENESS, a token is not answered, nobody is told that he has no entry. When the
    primary is back, all is as before.
    """
    async with deployment(
        serve, database, redis_cluster, standby, replica_lag_ms_max=500
    ) as deployed:
        client = deployed.client
        token = await deployed.write(4_000)
        await deployed.follow()
        await uses(deployed, "primary")
        await postgres_faults.kill()
        assert await until(partial(_opened, deployed, "postgres/read"), timeout_s=30)

        ages = []
        until_s = time.monotonic() + 3
        while time.monotonic() < until_s:
            score, meta = await deployed.read()
            assert (score, meta.source) == (4_000, Source.DATABASE)
            ages.append(meta.staleness)
        assert ages[-1] > timedelta(seconds=2)
        assert ages == sorted(ages)
        page = await client.list_entries("arena", page_size=2)
        assert [each.user_id for each in page.entries] == [1, 30]
        some = timedelta(milliseconds=100)
        with pytest.raises(Staleness):
            await client.get_entry("arena", 1, max_staleness=some)
        with pytest.raises(Staleness):
            await client.list_entries("arena", page_size=7, max_staleness=some)
        with pytest.raises(Unavailable):
            await deployed.read(consistency_token=token)
        with pytest.raises(Unavailable):
            await client.get_entry("arena", 31)

        await postgres_faults.restart()
        assert await until(partial(_writes, deployed), timeout_s=30)
        await deployed.follow()
        assert await until(partial(_reads, deployed, 4_001), timeout_s=30)


async def _opened(deployed: Deployment, name: str) -> bool:
    """Whether a breaker opens as reads go on."""
    for options in ({}, {"max_staleness": AT_ONCE}):
        with suppress(Unavailable):
            await deployed.read(**options)
    return await deployed.state(name) == "BREAKER_STATE_OPEN"


async def _writes(deployed: Deployment) -> bool:
    try:
        await deployed.write(4_001)
    except Unavailable:
        return False
    return True


async def _reads(deployed: Deployment, score: int) -> bool:
    return (await deployed.read())[0] == score


async def test_a_replica_dies_and_comes_back(
    database: str, redis_cluster: EmbeddedRedisCluster, standby_faults: Standby, serve: Serve
) -> None:
    """The primary answers, its breaker opens; started again, it is used again."""
    async with deployment(
        serve, database, redis_cluster, standby_faults, replica_lag_ms_max=600_000
    ) as deployed:
        await uses(deployed, "replica-1")
        assert await deployed.state("postgres/replica-1") == "BREAKER_STATE_CLOSED"
        await standby_faults.server.kill()

        for _ in range(10):
            _, meta = await deployed.read()
            assert meta.source is Source.DATABASE
        await uses(deployed, "primary")
        assert metrics.REPLICA_LAG.labels("replica-1")._value.get() == float("inf")
        opened = partial(_is, deployed, "postgres/replica-1", "BREAKER_STATE_OPEN")
        assert await until(opened, timeout_s=30)

        await standby_faults.server.restart()
        await uses(deployed, "replica-1")
        closed = partial(_is, deployed, "postgres/replica-1", "BREAKER_STATE_CLOSED")
        assert await until(closed, timeout_s=30)


async def _is(deployed: Deployment, name: str, state: str) -> bool:
    return await deployed.state(name) == state


async def test_a_replica_freezes(
    database: str, redis_cluster: EmbeddedRedisCluster, standby_faults: Standby, serve: Serve
) -> None:
    """Its callers have time left for the primary; its breaker opens, and nobody waits any more."""
    async with deployment(serve, database, redis_cluster, standby_faults) as deployed:
        await uses(deployed, "replica-1")
        standby_faults.server.freeze()

        for _ in range(10):
            _, meta = await deployed.read(timeout_s=3)
            assert meta.source is Source.DATABASE
        assert await until(partial(_unused, deployed), timeout_s=30)
        standby_faults.server.thaw()
        await uses(deployed, "replica-1")


async def _unused(deployed: Deployment) -> bool:
    began_s = time.monotonic()
    only_primary = await answered_by("primary", deployed.read)
    return only_primary and time.monotonic() - began_s < 0.2


async def test_a_promoted_replica_is_not_used(
    database: str, redis_cluster: EmbeddedRedisCluster, standby_faults: Standby, serve: Serve
) -> None:
    """It has gone its own way: what is written there shows nowhere."""
    async with deployment(serve, database, redis_cluster, standby_faults) as deployed:
        await uses(deployed, "replica-1")
        await standby_faults.promote()
        await uses(deployed, "primary")
        before = reads_of("replica-1")

        for score in range(100, 130):
            await deployed.write(score)
            assert (await deployed.read())[0] == score
        assert reads_of("replica-1") == before


async def test_several_replicas_take_turns(
    database: str,
    redis_cluster: EmbeddedRedisCluster,
    standby: Standby,
    standby_faults: Standby,
    serve: Serve,
) -> None:
    """Half of the reads each; one that an operator takes out, or that is too far behind, leaves
    them to the other; with both out the primary answers.
    """
    async with deployment(serve, database, redis_cluster, standby, standby_faults) as deployed:
        # An entry and its rank are two reads, a page is one.
        page = partial(deployed.client.list_entries, "arena", start_rank=2, page_size=2)
        for target in ("replica-1", "replica-2"):
            assert await until(partial(answered_by, target, page), timeout_s=30)
        before = reads_of("replica-1"), reads_of("replica-2"), reads_of("primary")
        for _ in range(20):
            await page()
        assert (reads_of("replica-1"), reads_of("replica-2"), reads_of("primary")) == (
            before[0] + 10,
            before[1] + 10,
            before[2],
        )

        await deployed.force("postgres/replica-1")
        for _ in range(5):
            assert await answered_by("replica-2", deployed.read)
        await standby_faults.pause()
        await deployed.write(77)
        await uses(deployed, "primary")
        await deployed.force("postgres/replica-1", pb.BREAKER_MODE_AUTO)
        await uses(deployed, "replica-1")
