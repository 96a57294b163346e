"""Two callers on a server with two workers: one floods, the other goes on as if it were alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.server_settings import Transport
from standings.v1 import board_service_pb2 as boards
from standings.v1 import board_service_pb2_grpc as boards_grpc
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings.v1 import types_pb2 as types
from standings_client import AsyncClient
from tests.fixtures.secured import Secured, secured

pytestmark = pytest.mark.both_transports

BOARD = "arena.main"
GET = pb.GetEntryRequest(board_id=BOARD, user_id=7)
RATE = 60


class Caller:
    """One caller by token, with connections of its own, so that it meets more than one worker."""

    def __init__(self, running: Secured, name: str, connections: int = 4) -> None:
        token = running.issuer.token("game-server", sub=name)
        self.metadata = (("authorization", f"Bearer {token}"),)
        self.stubs = [
            pb_grpc.RankingServiceStub(running.channel(running.by_token))
            for _ in range(connections)
        ]

    async def ask(self, number: int) -> str:
        """Reads; says how that ended, with the time to wait if there is one."""
        stub = self.stubs[number % len(self.stubs)]
        try:
            await stub.GetEntry(GET, timeout=20, metadata=self.metadata)
        except grpc.aio.AioRpcError as error:
            told = dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms")
            return f"{error.code().name} {told is not None and int(told) > 0}"
        return "OK"


@asynccontextmanager
async def limited(
    tmp_path: Path,
    database: str,
    cluster: EmbeddedRedisCluster,
    transport: Transport,
    **variables: str,
) -> AsyncIterator[Secured]:
    """A server with two workers and a board with user 7."""
    variables = {"STANDINGS_SERVER_WORKERS": "2", "STANDINGS_LIMITS_BURST_S": "1", **variables}
    async with secured(
        tmp_path, database, cluster, transport, certificates=False, tokens=True, **variables
    ) as running:
        for slot in range(2):
            await running.server.line("worker ready", slot=slot)
        setup = Caller(running, "setup", 1)
        channel = running.channel(running.by_token)
        board = types.Board(board_id=BOARD)
        await boards_grpc.BoardServiceStub(channel).CreateBoard(
            boards.CreateBoardRequest(board=board), metadata=setup.metadata
        )
        request = pb.SubmitScoreRequest(board_id=BOARD, user_id=7, score=5)
        await setup.stubs[0].SubmitScore(request, metadata=setup.metadata)
        yield running


async def paced(ask: Callable[[int], Awaitable[str]], per_s: int, seconds: float) -> list[str]:
    """So many calls a second, whether earlier ones are back or not."""
    start_s = time.monotonic()
    calls = []
    for number in range(int(per_s * seconds)):
        await asyncio.sleep(start_s + number / per_s - time.monotonic())
        calls.append(asyncio.create_task(ask(number)))
    return [*await asyncio.gather(*calls)]


async def test_one_floods_and_the_other_goes_on(
    database: str, redis_cluster: EmbeddedRedisCluster, transport: Transport, tmp_path: Path
) -> None:
    """Whoever asks for five times its rate gets its rate, over all workers together, and is told
    when to come back; the other is refused nothing.
    """
    async with limited(
        tmp_path, database, redis_cluster, transport, STANDINGS_LIMITS_READS_PER_S=str(RATE)
    ) as running:
        flooding, other = Caller(running, "flooding"), Caller(running, "other")
        seconds = 4.0
        start_s = time.monotonic()
        flood, quiet = await asyncio.gather(
            paced(flooding.ask, 5 * RATE, seconds), paced(other.ask, RATE // 2, seconds)
        )
        took_s = time.monotonic() - start_s

        assert set(quiet) == {"OK"}
        assert set(flood) == {"OK", "RESOURCE_EXHAUSTED True"}
        admitted = flood.count("OK")
        assert RATE * seconds * 0.8 <= admitted <= RATE * (took_s + 1) * 1.05
        name = (
            'standings_limited_calls_total{kind="reads",reason="RATE_LIMITED",role="game-server"}'
        )
        refused = len(flood) - admitted
        measured = await running.server.metrics_when(lambda told: told[name] >= refused)
        assert measured[name] == refused
        line = await running.server.line("callers were refused")
        assert [*line["most"]] == ["game-server/arena/flooding"]


async def test_a_stream_is_read_at_its_rate(
    database: str, redis_cluster: EmbeddedRedisCluster, transport: Transport, tmp_path: Path
) -> None:
    """Nothing is refused or lost: it takes as long as the rate says."""
    async with limited(
        tmp_path, database, redis_cluster, transport, STANDINGS_LIMITS_WRITES_PER_S="200"
    ) as running:
        caller = Caller(running, "streaming", 1)
        messages = [
            pb.StreamSubmitScoresRequest(
                sequence=number,
                submissions=[
                    pb.SubmitScoreRequest(board_id=BOARD, user_id=100 * number + one, score=one)
                    for one in range(1, 101)
                ],
            )
            for number in range(1, 9)
        ]
        start_s = time.monotonic()
        call = caller.stubs[0].StreamSubmitScores(
            iter(messages), timeout=60, metadata=caller.metadata
        )
        acknowledged = [answer.sequence async for answer in call]
        took_s = time.monotonic() - start_s

        assert sorted(acknowledged) == [*range(1, 9)]
        # 800 submissions, of which 200 are free and the last message may owe all but one.
        assert 2.4 <= took_s <= 12
        name = 'standings_limit_held_seconds_total{role="game-server"}'
        measured = await running.server.metrics_when(lambda told: told.get(name, 0) > 2)
        assert measured[name] > 2


async def test_the_client_waits_as_it_is_told(
    database: str, redis_cluster: EmbeddedRedisCluster, transport: Transport, tmp_path: Path
) -> None:
    """The Python client comes back when the trailer says, and its caller sees no failure."""
    async with limited(
        tmp_path, database, redis_cluster, transport, STANDINGS_LIMITS_READS_PER_S="20"
    ) as running:
        token = running.issuer.token("game-server", sub="patient")
        async with AsyncClient(
            running.by_token.replace("127.0.0.1", "localhost"),
            credentials=running.authority.channel(),
            token=lambda: token,
            timeout_s=20,
        ) as client:
            start_s = time.monotonic()
            for _ in range(30):
                assert (await client.get_entry(BOARD, 7)).entry.user_id == 7
            assert time.monotonic() - start_s > 0.4
