"""What operators can do to a running server, whatever its stores do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.embedded.waiting import until
from standings.v1 import admin_service_pb2 as pb
from standings.v1 import admin_service_pb2_grpc as admin_grpc
from standings_client import Board
from tests.fixtures.redis import empty
from tests.fixtures.server import RunningServer, Serve, settings_for

REASON = "a drill of the evening"
LEAVES = ["postgres/jobs", "postgres/read", "postgres/write"] + [
    f"redis/shard-{shard:02}" for shard in range(16)
]
NAMES = sorted([*LEAVES, "postgres", "redis"])


@pytest.fixture
async def admin(standings: RunningServer) -> AsyncIterator[admin_grpc.AdminServiceAsyncStub]:
    """The operators' side of the running server."""
    async with grpc.aio.insecure_channel(standings.admin_address) as channel:
        yield admin_grpc.AdminServiceStub(channel)


@contextmanager
def refused(code: grpc.StatusCode) -> Iterator[None]:
    """The call inside is refused with a code."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert caught.value.code() is code


def setting(name: str, mode: int = pb.BREAKER_MODE_FORCED_OPEN, **fields: Any) -> Any:
    """A request to set a breaker."""
    return pb.SetBreakerRequest(**{"name": name, "mode": mode, "reason": REASON, **fields})


async def forced(admin: Any) -> dict[str, int]:
    """The breakers that are forced."""
    breakers = (await admin.ListBreakers(pb.ListBreakersRequest())).breakers
    return {one.name: one.mode for one in breakers if one.mode != pb.BREAKER_MODE_AUTO}


async def something_forced(admin: Any) -> bool:
    """Whether any breaker is forced."""
    return bool(await forced(admin))


async def nothing_forced(admin: Any) -> bool:
    """Whether none is."""
    return not await forced(admin)


async def test_breakers_are_listed_and_set(admin: Any) -> None:
    """All 21, each with the one worker; set by name, parent and pattern, and given back."""
    breakers = (await admin.ListBreakers(pb.ListBreakersRequest())).breakers
    assert [one.name for one in breakers] == NAMES
    assert {len(one.workers) for one in breakers} == {1}

    done = await admin.SetBreaker(setting("redis/*"))
    assert (list(done.acknowledged_workers), list(done.laggard_workers)) == ([0], [])
    await admin.SetBreaker(setting("postgres", pb.BREAKER_MODE_FORCED_CLOSED))
    assert len(await forced(admin)) == 16 + 4
    await admin.SetBreaker(setting("*", pb.BREAKER_MODE_AUTO))
    assert await forced(admin) == {}


async def test_a_mode_ends_by_itself(admin: Any) -> None:
    """At its ttl, to the tenth of a second."""
    began_s = time.monotonic()
    await admin.SetBreaker(setting("redis/shard-07", ttl=Duration(seconds=1)))
    assert await until(lambda: nothing_forced(admin), timeout_s=5)

    assert time.monotonic() - began_s == pytest.approx(1, abs=0.2)


async def test_a_watch_follows(admin: Any) -> None:
    """What an operator does is told within 200 ms to those who watch."""
    stream = admin.WatchBreakers(pb.WatchBreakersRequest())
    first = await stream.read()
    await admin.SetBreaker(setting("postgres/write"))
    async with asyncio.timeout(0.5):
        while True:
            seen = {one.name: one.mode for one in (await stream.read()).breakers}
            if seen["postgres/write"] == pb.BREAKER_MODE_FORCED_OPEN:
                break
    stream.cancel()

    assert [one.name for one in first.breakers] == NAMES


async def test_faults(admin: Any) -> None:
    """Injected, listed, cleared."""
    request = pb.InjectFaultRequest(
        target="redis/shard-03",
        kind=pb.FAULT_KIND_LATENCY,
        latency=Duration(nanos=1_000_000),
        reason=REASON,
    )
    await admin.InjectFault(request)
    (fault,) = (await admin.ListFaults(pb.ListFaultsRequest())).faults
    assert (fault.target, fault.probability) == ("redis/shard-03", 1.0)

    assert not (await admin.ClearFaults(pb.ClearFaultsRequest())).faults


async def test_what_is_wrong_is_refused(admin: Any) -> None:
    """Unknown names, missing reasons, times out of bounds; nothing is forced afterwards."""
    with refused(grpc.StatusCode.NOT_FOUND):
        await admin.SetBreaker(setting("redis/shard-16"))
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        await admin.SetBreaker(setting("*", reason=""))
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        await admin.SetBreaker(setting("*", ttl=Duration(seconds=86_401)))
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        await admin.SetBreaker(setting("*", mode=0))
    with refused(grpc.StatusCode.NOT_FOUND):
        await admin.InjectFault(
            pb.InjectFaultRequest(target="redis", kind=pb.FAULT_KIND_ERROR, reason=REASON)
        )
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        await admin.InjectFault(pb.InjectFaultRequest(target="*", reason=REASON))
    with refused(grpc.StatusCode.NOT_FOUND):
        await admin.ClearFaults(pb.ClearFaultsRequest(target="mysql/*"))

    assert await forced(admin) == {}


async def test_faults_have_to_be_enabled(
    database: str, redis_cluster: EmbeddedRedisCluster, serve: Serve
) -> None:
    """A server that was started without is asked in vain; the other levers work."""
    settings = settings_for(database, redis_cluster)
    plain = settings.model_copy(
        update={"server": settings.server.model_copy(update={"faults": False})}
    )
    async with (
        serve(plain) as addresses,
        grpc.aio.insecure_channel(addresses.admin) as channel,
    ):
        admin = admin_grpc.AdminServiceStub(channel)
        with refused(grpc.StatusCode.FAILED_PRECONDITION):
            await admin.InjectFault(
                pb.InjectFaultRequest(target="*", kind=pb.FAULT_KIND_ERROR, reason=REASON)
            )
        await admin.SetBreaker(setting("*"))


async def test_a_restarted_server_has_the_modes(
    database: str, redis_cluster: EmbeddedRedisCluster, serve: Serve
) -> None:
    """They outlive the worker that was told."""
    settings = settings_for(database, redis_cluster)
    for mode in (pb.BREAKER_MODE_FORCED_CLOSED, None):
        async with (
            serve(settings) as addresses,
            grpc.aio.insecure_channel(addresses.admin) as channel,
        ):
            admin = admin_grpc.AdminServiceStub(channel)
            if mode is not None:
                await admin.SetBreaker(setting("redis/shard-00", mode))
            assert await forced(admin) == {"redis/shard-00": pb.BREAKER_MODE_FORCED_CLOSED}


async def test_a_fleet_hears_of_it(
    database: str, redis_cluster: EmbeddedRedisCluster, serve: Serve
) -> None:
    """A server with a state of its own on the same database follows within seconds."""
    one, two = [settings_for(database, redis_cluster) for _ in range(2)]
    async with (
        serve(one) as first,
        serve(two, with_jobs=False) as second,
        grpc.aio.insecure_channel(first.admin) as channel,
        grpc.aio.insecure_channel(second.admin) as other_channel,
    ):
        admin, other = map(admin_grpc.AdminServiceStub, (channel, other_channel))
        await admin.SetBreaker(setting("redis/shard-00", pb.BREAKER_MODE_FORCED_CLOSED))
        assert await until(lambda: something_forced(other), timeout_s=10)
        await other.SetBreaker(setting("redis/*", pb.BREAKER_MODE_AUTO))
        assert await until(lambda: nothing_forced(admin), timeout_s=10)


async def test_all_works_without_the_stores(
    database: str,
    redis_faults: EmbeddedRedisCluster,
    postgres_faults: EmbeddedPostgres,
    serve: Serve,
) -> None:
    """Both frozen, then both killed: levers answer within 100 ms, and shards are told as down."""
    await empty(redis_faults)
    settings = settings_for(database, redis_faults)
    quick = settings.model_copy(
        update={"redis": settings.redis.model_copy(update={"operation_timeout_s": 0.5})}
    )
    async with (
        serve(quick) as addresses,
        grpc.aio.insecure_channel(addresses.admin) as channel,
    ):
        admin = admin_grpc.AdminServiceStub(channel)
        await admin.ListShards(pb.ListShardsRequest())
        postgres_faults.freeze()
        for node in redis_faults.nodes:
            node.freeze()
        await _levers_answer(admin)
        await _shards_answer(admin)
        postgres_faults.thaw()
        await postgres_faults.kill()
        await asyncio.gather(*(node.kill() for node in redis_faults.nodes))
        await _levers_answer(admin)
        await _shards_answer(admin)


async def _levers_answer(admin: Any) -> None:
    """Every lever once; the second round is timed."""
    took_s = {}
    for _ in range(2):
        for method, request in (
            ("SetBreaker", setting("redis/*")),
            ("ListBreakers", pb.ListBreakersRequest()),
            (
                "InjectFault",
                pb.InjectFaultRequest(target="*", kind=pb.FAULT_KIND_ERROR, reason=REASON),
            ),
            ("ListFaults", pb.ListFaultsRequest()),
            ("ClearFaults", pb.ClearFaultsRequest()),
            ("SetBreaker", setting("*", pb.BREAKER_MODE_AUTO)),
        ):
            began_s = time.monotonic()
            await getattr(admin, method)(request)
            took_s[method] = time.monotonic() - began_s
    assert max(took_s.values()) < 0.15, took_s


async def _shards_answer(admin: Any) -> None:
    shards = (await admin.ListShards(pb.ListShardsRequest(), timeout=5)).shards
    assert [one.state for one in shards] == [pb.SHARD_STATE_DOWN] * 16


async def test_shards_are_told_without_postgres(
    standings: RunningServer, admin: Any, postgres_faults: EmbeddedPostgres
) -> None:
    """Where they live and how far they are; entries are not counted."""
    await standings.client.boards.create(Board(board_id="arena"))
    await standings.client.submit_score("arena", 1, 1)
    counted = (await admin.ListShards(pb.ListShardsRequest())).shards
    postgres_faults.freeze()
    shards = (await admin.ListShards(pb.ListShardsRequest(), timeout=5)).shards
    postgres_faults.thaw()

    assert sum(one.entry_count for one in counted) == 1
    assert sum(one.entry_count for one in shards) == 0
    assert [(one.shard, one.node_address, one.slot) for one in shards] == [
        (one.shard, one.node_address, one.slot) for one in counted
    ]
    assert {one.breaker_state for one in shards} <= {1, 2, 3}
