"""A supervisor and its workers: one dies, freezes or is replaced, and callers hardly notice."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2_grpc as health_grpc

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.server_settings import Transport
from bootstrap.settings import Settings
from server.health_probe import ask_health
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings_client import AsyncClient, Board, Operator
from tests.fixtures.processes import ServerProcess, is_alive, server_process, time_until
from tests.fixtures.redis import empty
from tests.fixtures.server import settings_for

pytestmark = [pytest.mark.alone, pytest.mark.both_transports]

CALLERS = 12
PAUSE_S = 0.02
GONE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
_users = itertools.count(1)


@dataclass
class Load:
    """Plain calls without retries, each caller on a connection of its own."""

    address: str
    acknowledged: Counter[int] = field(default_factory=Counter)
    errors: list[grpc.StatusCode] = field(default_factory=list)
    ending: bool = False

    @property
    def calls(self) -> int:
        """How many have ended, well or not."""
        return self.acknowledged.total() + len(self.errors)

    async def reaches(self, calls: int) -> None:
        """Returns after so many more calls."""
        end = self.calls + calls
        await time_until(lambda: self.calls >= end, timeout_s=60)

    async def call(self, user: int) -> None:
        """One caller, until the end of the load."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self.address, options) as channel:
            stub = pb_grpc.RankingServiceStub(channel)
            while not self.ending:
                request = pb.SubmitScoreRequest(board_id="arena", user_id=user, score=1)
                try:
                    await stub.SubmitScore(request, timeout=10)
                    self.acknowledged[user] += 1
                except grpc.aio.AioRpcError as error:
                    self.errors.append(error.code())
                await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def loaded(address: str) -> AsyncIterator[Load]:
    """Callers that call until this is left, and have all their answers then."""
    load = Load(address)
    async with asyncio.TaskGroup() as group:
        for user in itertools.islice(_users, CALLERS):
            group.create_task(load.call(user))
        await load.reaches(10 * CALLERS)
        yield load
        load.ending = True


@pytest.fixture
async def settings(
    transport: Transport, database: str, redis_cluster: EmbeddedRedisCluster
) -> Settings:
    """Settings of a server with two workers on empty stores, with a little time for balancers."""
    await empty(redis_cluster)
    settings = settings_for(database, redis_cluster)
    changes = {"workers": 2, "drain_settle_s": 0.5, "transport": transport}
    server = settings.server.model_copy(update=changes)
    return settings.model_copy(update={"server": server})


@pytest.fixture
async def server(settings: Settings, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A running supervisor with two workers, and a board."""
    async with server_process(settings, tmp_path) as server:
        async with AsyncClient(server.address, timeout_s=20) as client:
            await client.boards.create(Board(board_id="arena", operator=Operator.INCREMENT))
        yield server


async def _counted(address: str, load: Load) -> None:
    """Everything acknowledged is there; of the rest, at most what was sent."""
    async with AsyncClient(address, timeout_s=20) as client:
        scores = {e.user_id: e.score async for e in client.iter_entries("arena", page_size=1000)}
    for user, count in load.acknowledged.items():
        assert count <= scores[user] <= count + len(load.errors)


async def test_both_workers_serve(settings: Settings, tmp_path: Path) -> None:
    """Connections spread over the workers; every line of a worker has its slot, and what is logged
    below a call has the call's id.
    """
    async with (
        server_process(settings, tmp_path, STANDINGS_LOG_LEVEL="DEBUG") as server,
        AsyncClient(server.address, timeout_s=20) as client,
    ):
        await client.boards.create(Board(board_id="arena", operator=Operator.INCREMENT))
        async with loaded(server.address) as load:
            await load.reaches(10 * CALLERS)
        assert await server.stop() == 0

    calls = [line for line in server.lines if line["event"] == "call"]
    assert {0, 1} == {line["slot"] for line in calls}
    assert all(line["request_id"] for line in calls)
    assert load.errors == []
    assert "slot" in await server.line("running the jobs here")


async def test_the_supervisor_knows_no_grpc(server: ServerProcess) -> None:
    """Its process never loaded the library, whose threads and locks it should not have."""
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    workers = [Path(f"/proc/{pid}/maps").read_text() for pid in server.workers().values()]

    assert "cygrpc" not in maps
    assert all("cygrpc" in maps for maps in workers)


async def test_threads_of_a_worker_wait_for_its_event_loop(server: ServerProcess) -> None:
    """All that the transport has by then are scheduled as a batch is, and one is not."""
    await server.line("worker ready", pid=server.workers()[0])
    policies = []
    for task in Path(f"/proc/{server.workers()[0]}/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended by now
            policies.append(os.sched_getscheduler(int(task.name)))

    assert os.SCHED_OTHER in policies
    assert policies.count(os.SCHED_BATCH) > 1


async def test_a_killed_worker(server: ServerProcess) -> None:
    """SIGKILL under load: nothing acknowledged is lost, few callers are told, and the worker is
    there again.
    """
    pid = server.workers()[0]
    async with loaded(server.address) as load:
        os.kill(pid, signal.SIGKILL)
        await server.line("worker died", pid=pid, exit_code=-signal.SIGKILL)
        await time_until(lambda: server.workers().get(0) not in {None, pid}, timeout_s=20)
        await server.line("worker ready", pid=server.workers()[0])
        await load.reaches(10 * CALLERS)

    assert len(load.errors) <= 10
    assert set(load.errors) <= GONE
    await _counted(server.address, load)


async def test_what_workers_measure_is_told_together(server: ServerProcess) -> None:
    """Counts are over all workers and outlive one that is killed; what only a living worker can
    say ends with it.
    """
    submitted = 'standings_calls_total{code="OK",method="RankingService.SubmitScore"}'
    async with loaded(server.address) as load:
        await load.reaches(10 * CALLERS)
    before = await server.metrics_when(lambda told: told[submitted] >= load.calls)
    pid = server.workers()[1]
    os.kill(pid, signal.SIGKILL)
    await server.line("worker died", pid=pid)
    after = await server.metrics()
    await time_until(lambda: server.workers().get(1) not in {None, pid})
    await server.line("worker ready", pid=server.workers()[1])
    again = await server.metrics()

    assert before[submitted] == after[submitted] == again[submitted] == load.calls
    assert after['standings_worker_ends_total{why="died"}'] == 1
    assert after['standings_worker_memory_bytes{slot="0"}'] > 2**20
    assert 'standings_worker_memory_bytes{slot="1"}' not in after
    assert 'standings_worker_memory_bytes{slot="1"}' in again
    assert again["standings_calls_in_flight"] == 0


async def test_a_frozen_worker(server: ServerProcess) -> None:
    """SIGSTOP: a worker that says nothing for 3 s is killed and started again."""
    pid = server.workers()[1]
    started = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    await server.line("worker frozen", pid=pid)
    frozen_s = time.monotonic() - started
    await time_until(lambda: server.workers().get(1) not in {None, pid}, timeout_s=20)
    await server.line("worker ready", pid=server.workers()[1])

    assert 2.5 <= frozen_s <= 5
    assert not is_alive(pid)


@pytest.mark.parametrize("also_frozen", [False, True])
async def test_a_killed_supervisor(
    settings: Settings, server: ServerProcess, tmp_path: Path, *, also_frozen: bool
) -> None:
    """Its workers end within 3 s, a frozen one too, and the next supervisor has the port."""
    workers = server.workers()
    if also_frozen:
        os.kill(workers[0], signal.SIGSTOP)
    server.process.kill()
    took_s = await time_until(lambda: not any(map(is_alive, workers.values())), timeout_s=10)
    started = time.monotonic()
    async with server_process(settings, tmp_path, STANDINGS_SERVER_ADDRESS=server.address) as next_:
        start_s = time.monotonic() - started

    assert next_.address == server.address
    assert took_s <= 3
    # 1.5 s where there are cores for it.
    assert start_s <= 10


async def test_a_supervisor_started_at_once_after_a_kill(
    settings: Settings, server: ServerProcess, tmp_path: Path
) -> None:
    """It waits for the port until the workers of the one before are gone."""
    server.process.kill()
    async with server_process(settings, tmp_path, STANDINGS_SERVER_ADDRESS=server.address) as next_:
        assert next_.address == server.address


async def test_a_rolling_restart(server: ServerProcess) -> None:
    """SIGHUP under load: every worker is replaced by one in another slot, and at most 1 call of
    2,000 fails.
    """
    async with loaded(server.address) as load:
        server.process.send_signal(signal.SIGHUP)
        for slot in (0, 1):
            line = await server.line("worker replaced", slot=slot)
            assert (line["by"], line["why"]) == (slot + 2, "asked")
            await server.line("worker stopped", slot=slot, exit_code=0)
        await load.reaches(1_000)

    assert set(server.workers()) == {2, 3}
    assert set(load.errors) <= GONE
    assert len(load.errors) <= load.calls * 0.0005
    await _counted(server.address, load)


async def test_a_worker_told_to_stop(server: ServerProcess, transport: Transport) -> None:
    """SIGTERM to one worker under load: it drains, the other takes over, another is started. An
    Envoy hangs up at once; what it has acknowledged is there.
    """
    pid = server.workers()[0]
    async with loaded(server.address) as load:
        os.kill(pid, signal.SIGTERM)
        await server.line("worker died", pid=pid, exit_code=0)
        await time_until(lambda: server.workers().get(0) not in {None, pid})
        await server.line("worker ready", pid=server.workers()[0])
        await load.reaches(2_000)

    assert set(load.errors) <= GONE
    hung_up_max = CALLERS if transport is Transport.ENVOY else 0
    assert len(load.errors) <= load.calls * 0.0005 + hung_up_max
    await _counted(server.address, load)


async def test_a_server_told_to_stop(
    settings: Settings, server: ServerProcess, tmp_path: Path
) -> None:
    """SIGTERM under load: callers who look elsewhere as soon as the health tells them to lose
    nothing, and what was acknowledged is there after the next start.
    """
    async with grpc.aio.insecure_channel(server.address) as channel, loaded(server.address) as load:
        health = health_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
        server.process.terminate()
        assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        health.cancel()
        load.ending = True
    assert await asyncio.wait_for(server.process.wait(), 30) == 0

    assert load.errors == []
    async with server_process(settings, tmp_path) as again:
        await _counted(again.address, load)


async def test_a_taken_port(settings: Settings, server: ServerProcess, tmp_path: Path) -> None:
    """A second server on the same address does not start, and says why."""
    second = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "serve"),
        env={
            **settings.environment(),
            "STANDINGS_STATE_DIRECTORY": str(tmp_path / "second"),
            "STANDINGS_SERVER_ADDRESS": server.address,
        },
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await asyncio.wait_for(second.communicate(), 30)

    assert second.returncode == 1
    assert f"cannot listen on {server.address}" in told.decode()
    assert ask_health(server.address, timeout_s=5) == "SERVING"


async def test_a_database_that_is_not_ready(
    settings: Settings, empty_database: str, tmp_path: Path
) -> None:
    """Where no worker can start, the server does not; the workers have said why."""
    unready = settings.with_stores(postgres_dsn=empty_database, redis_nodes=settings.redis.nodes)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "serve"),
        env={**unready.environment(), "STANDINGS_STATE_DIRECTORY": str(tmp_path)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await asyncio.wait_for(process.communicate(), 30)

    assert process.returncode == 1
    assert "run `standings migrate`" in told.decode()
