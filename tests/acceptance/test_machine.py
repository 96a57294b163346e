"""What an operator tells one worker, all workers of its machine do; shown on real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.embedded.waiting import until
from standings.v1 import admin_service_pb2 as pb
from standings.v1 import admin_service_pb2_grpc as admin_grpc
from standings_client import AsyncClient, Board, Source, StandingsError
from tests.fixtures.processes import ServerProcess, server_process
from tests.fixtures.redis import empty
from tests.fixtures.server import RunningServer, settings_for

REASON = "a drill of the evening"


@asynccontextmanager
async def operators(address: str) -> AsyncIterator[Any]:
    """The operators' side of a server, on a connection of its own: of one worker, by chance."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        yield admin_grpc.AdminServiceStub(channel)


def setting(name: str, mode: int = pb.BREAKER_MODE_FORCED_OPEN, **fields: Any) -> Any:
    """A request to set a breaker."""
    return pb.SetBreakerRequest(**{"name": name, "mode": mode, "reason": REASON, **fields})


@pytest.fixture
async def server(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path
) -> AsyncIterator[ServerProcess]:
    """A supervisor with three workers."""
    await empty(redis_cluster)
    async with server_process(
        settings_for(database, redis_cluster),
        tmp_path / "state",
        STANDINGS_SERVER_WORKERS="3",
    ) as running:
        async with operators(running.admin_address) as admin:

            async def whole() -> bool:
                return await workers_of(admin) == [0, 1, 2]

            assert await until(whole, timeout_s=60)
        yield running


async def workers_of(admin: Any) -> list[int]:
    """The slots of the workers that tell of a breaker."""
    (first, *_) = (await admin.ListBreakers(pb.ListBreakersRequest())).breakers
    return [line.worker for line in first.workers]


async def test_all_workers_acknowledge_within_100_ms(server: ServerProcess) -> None:
    """Whichever worker is told, all three act on it, and each of them says so of all."""
    for _ in range(4):
        async with operators(server.admin_address) as admin:
            began_s = time.monotonic()
            done = await admin.SetBreaker(setting("redis/shard-07"))
            took_s = time.monotonic() - began_s

            assert (list(done.acknowledged_workers), list(done.laggard_workers)) == ([0, 1, 2], [])
            # The connection is made anew each time, on a machine that does other things, too.
            assert took_s < 0.3
    async with operators(server.admin_address) as admin:
        breakers = (await admin.ListBreakers(pb.ListBreakersRequest())).breakers
        forced = [one.name for one in breakers if one.mode == pb.BREAKER_MODE_FORCED_OPEN]

        assert forced == ["redis/shard-07"]


async def test_a_mode_outlives_every_worker(server: ServerProcess) -> None:
    """SIGKILL of all three, one after the other: their successors have it before they serve."""
    async with (
        operators(server.admin_address) as admin,
        AsyncClient(server.address, timeout_s=20) as client,
    ):
        await client.boards.create(Board(board_id="arena"))
        await admin.SetBreaker(setting("postgres/write"))
    for slot, pid in server.workers().items():
        os.kill(pid, signal.SIGKILL)
        await server.line("worker died", slot=slot, pid=pid)
    async with operators(server.admin_address) as admin:

        async def whole() -> bool:
            try:
                return await workers_of(admin) == [0, 1, 2]
            except grpc.aio.AioRpcError:
                return False

        assert await until(whole, timeout_s=60)
    async with AsyncClient(server.address, timeout_s=2) as client:
        for _ in range(5):
            with pytest.raises(StandingsError):
                await client.submit_score("arena", 1, 1)


async def test_a_frozen_worker_is_a_laggard(server: ServerProcess) -> None:
    """It is named after a second, and what was set is in force in the others."""
    slot, pid = next(iter(server.workers().items()))
    async with AsyncExitStack() as stack:
        # Some of these connections are the frozen worker's.
        admins = [
            await stack.enter_async_context(operators(server.admin_address)) for _ in range(8)
        ]
        os.kill(pid, signal.SIGSTOP)
        calls = [asyncio.ensure_future(admin.SetBreaker(setting("redis/*"))) for admin in admins]
        first = await next(asyncio.as_completed(calls, timeout=5))
        os.kill(pid, signal.SIGCONT)
        await asyncio.gather(*calls, return_exceptions=True)

    assert list(first.laggard_workers) == [slot]
    assert sorted([slot, *first.acknowledged_workers]) == [0, 1, 2]


async def test_read_only_and_back(standings: RunningServer) -> None:
    """With postgres/write forced open nothing is recorded, reads go on; AUTO ends it."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    await client.submit_score("arena", 1, 1)
    async with operators(standings.admin_address) as admin:
        await admin.SetBreaker(setting("postgres/write"))
        with pytest.raises(StandingsError):
            await client.submit_score("arena", 2, 1, timeout_s=1)
        assert (await client.get_entry("arena", 1)).entry.rank == 1
        await admin.SetBreaker(setting("postgres/*", pb.BREAKER_MODE_AUTO))

    async def recorded() -> bool:
        try:
            await client.submit_score("arena", 3, 1, timeout_s=2)
        except StandingsError:
            return False
        return True

    assert await until(recorded, timeout_s=10)


async def test_without_redis_scores_are_recorded(standings: RunningServer) -> None:
    """With redis/* forced open a score is acknowledged and not indexed, and reads come from
    PostgreSQL; it ends at its ttl.
    """
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    async with operators(standings.admin_address) as admin:
        await admin.SetBreaker(setting("redis/*", ttl=Duration(seconds=3)))
        done = await client.submit_score("arena", 1, 5)
        read = await client.list_entries("arena")

    assert not done.indexed
    assert read.meta.source is Source.DATABASE
    assert [(entry.user_id, entry.score) for entry in read.entries] == [(1, 5)]

    async def indexed() -> bool:
        return (await client.submit_score("arena", 1, 6)).indexed

    assert await until(indexed, timeout_s=20)


async def test_a_fault_befalls_calls_until_it_is_cleared(standings: RunningServer) -> None:
    """An error at postgres/write fails submissions; cleared, the breaker closes by itself."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    async with operators(standings.admin_address) as admin:
        await admin.InjectFault(
            pb.InjectFaultRequest(target="postgres/write", kind=pb.FAULT_KIND_ERROR, reason=REASON)
        )
        with pytest.raises(StandingsError):
            await client.submit_score("arena", 1, 1, timeout_s=1)
        await admin.ClearFaults(pb.ClearFaultsRequest())

    async def recorded() -> bool:
        try:
            await client.submit_score("arena", 1, 1, timeout_s=2)
        except StandingsError:
            return False
        return True

    assert await until(recorded, timeout_s=20)
