"""Other callers keep nine tenths of what they do while somebody abuses the server.

Brief among the tests; `make abuse` takes the time for figures that can be quoted, and prints them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.server_settings import Transport
from standings.v1 import board_service_pb2 as boards
from standings.v1 import board_service_pb2_grpc as boards_grpc
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings.v1 import types_pb2 as types
from tests.abuse.attacks import ATTACKS
from tests.fixtures.processes import ServerProcess, server_process
from tests.fixtures.redis import empty
from tests.fixtures.server import settings_for

pytestmark = [pytest.mark.alone, pytest.mark.both_transports, pytest.mark.timeout(1500)]

SECONDS = float(os.environ.get("ABUSE_SECONDS", "1.5"))
"""Of each turn; at 5 and more, in full numbers."""
FULL = SECONDS >= 5
TURNS = 3
COUNTS = {
    "slow loris": 400 if FULL else 100,
    "rapid reset": 20_000 if FULL else 4_000,
    "many streams": 1_000,
    "gzip bomb": 20,
    "huge metadata": 50 if FULL else 20,
    "idle connections": 10_000 if FULL else 500,
}
CALLS_PER_S = 200
CALL_S = 1.0
BOARD = "arena"


@dataclass(frozen=True)
class Turn:
    """What somebody who means well got: good answers a second, and their slowest hundredth."""

    per_s: float
    p99_ms: float


async def well_meant(stub: Any) -> Turn:
    """A steady load of a write in ten and reads, each with a second of time."""
    times_ms: list[float] = []

    async def one(number: int) -> None:
        start_s = time.monotonic()
        user = number % 50 + 1
        with contextlib.suppress(grpc.aio.AioRpcError):
            if number % 10:
                await stub.GetEntry(
                    pb.GetEntryRequest(board_id=BOARD, user_id=user), timeout=CALL_S
                )
            else:
                await stub.SubmitScore(
                    pb.SubmitScoreRequest(board_id=BOARD, user_id=user, score=number),
                    timeout=CALL_S,
                )
            times_ms.append((time.monotonic() - start_s) * 1000)

    start_s = time.monotonic()
    calls = []
    for number in range(int(CALLS_PER_S * SECONDS)):
        await asyncio.sleep(start_s + number / CALLS_PER_S - time.monotonic())
        calls.append(asyncio.create_task(one(number)))
    await asyncio.gather(*calls)
    slowest = sorted(times_ms)[int(len(times_ms) * 0.99) :] or [float("inf")]
    return Turn(len(times_ms) / SECONDS, slowest[0])


@asynccontextmanager
async def attacked(name: str, address: str, seen: dict[str, int]) -> AsyncIterator[None]:
    """An attack that is under way; what it was told is added up."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.abuse.attacks", name, address, str(COUNTS[name])),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(120):
            assert await process.stdout.readline() == b"ready\n"
        yield
        process.stdin.close()
        async with asyncio.timeout(60):
            for what, count in json.loads(await process.stdout.readline()).items():
                seen[what] = seen.get(what, 0) + count
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def abused(
    database: str, cluster: EmbeddedRedisCluster, transport: Transport, directory: Path
) -> AsyncIterator[tuple[ServerProcess, Any]]:
    """A server with one worker that limits hosts, and somebody who knows its board."""
    await empty(cluster)
    variables = {
        "STANDINGS_SERVER_TRANSPORT": transport.value,
        "STANDINGS_SERVER_WORKERS": "1",
        "STANDINGS_LIMITS_ANONYMOUS": "true",
    }
    settings = settings_for(database, cluster)
    async with (
        server_process(settings, directory / "state", **variables) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await server.line("worker ready")
        board = boards.CreateBoardRequest(board=types.Board(board_id=BOARD))
        await boards_grpc.BoardServiceStub(channel).CreateBoard(board)
        stub = pb_grpc.RankingServiceStub(channel)
        for user in range(1, 51):
            await stub.SubmitScore(pb.SubmitScoreRequest(board_id=BOARD, user_id=user, score=1))
        yield server, stub


async def test_others_keep_nine_tenths(
    database: str, redis_cluster: EmbeddedRedisCluster, transport: Transport, tmp_path: Path
) -> None:
    """In turns without and with an attack, each of them: medians of good answers a second."""
    kept: dict[str, float] = {}
    async with abused(database, redis_cluster, transport, tmp_path) as (server, stub):
        (pid,) = server.workers().values()
        await well_meant(stub)
        for name in ATTACKS:
            quiet, loud, seen = [], [], dict[str, int]()
            for _ in range(TURNS):
                quiet.append(await well_meant(stub))
                async with attacked(name, server.address, seen):
                    loud.append(await well_meant(stub))
            kept[name] = median(turn.per_s for turn in loud) / median(turn.per_s for turn in quiet)
            sys.stdout.write(
                f"\n{transport.value:7} {name:17} {median(turn.per_s for turn in quiet):6.1f}/s ->"
                f" {median(turn.per_s for turn in loud):6.1f}/s ({kept[name]:.0%}), p99"
                f" {median(turn.p99_ms for turn in quiet):.1f} ->"
                f" {median(turn.p99_ms for turn in loud):.1f} ms, worker {_memory_mib(pid)} MiB;"
                f" {seen}\n"
            )
        assert server.workers() == {0: pid}
    assert {name: share for name, share in kept.items() if share < 0.9} == {}


def _memory_mib(pid: int) -> int:
    """What a worker holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20
