"""What a connection may ask for at all, on a server in processes of its own, by each transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import psycopg
import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.server_settings import Transport
from standings.v1 import board_service_pb2 as boards
from standings.v1 import board_service_pb2_grpc as boards_grpc
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings.v1 import types_pb2 as types
from tests.fixtures.processes import server_process
from tests.fixtures.redis import empty
from tests.fixtures.server import settings_for

pytestmark = pytest.mark.both_transports

SUBMIT = "/standings.v1.RankingService/SubmitScore"
GOOD = pb.SubmitScoreRequest(board_id="arena", user_id=7, score=5)
STREAMS = 6


@asynccontextmanager
async def served(
    directory: Path,
    database: str,
    cluster: EmbeddedRedisCluster,
    transport: Transport,
    **variables: str,
) -> AsyncIterator[grpc.aio.Channel]:
    """A connection to a server with one worker."""
    await empty(cluster)
    variables = {
        "STANDINGS_SERVER_TRANSPORT": transport.value,
        "STANDINGS_SERVER_WORKERS": "1",
        **variables,
    }
    settings = settings_for(database, cluster)
    async with server_process(settings, directory / "state", **variables) as server:
        await server.line("worker ready")
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield channel


async def code_of(call: grpc.aio.UnaryUnaryCall[bytes, bytes]) -> str:
    """How a call ends."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_messages_metadata_and_streams(
    database: str, redis_cluster: EmbeddedRedisCluster, transport: Transport, tmp_path: Path
) -> None:
    """Too large as it comes or unpacked, too much beside it, and more streams than a connection may
    have; good calls go on.
    """
    async with served(
        tmp_path,
        database,
        redis_cluster,
        transport,
        STANDINGS_SERVER_STREAMS_PER_CONNECTION_MAX=str(STREAMS),
    ) as channel:
        board = boards.CreateBoardRequest(board=types.Board(board_id="arena"))
        await boards_grpc.BoardServiceStub(channel).CreateBoard(board)
        submit = channel.unary_unary(SUBMIT)
        good = GOOD.SerializeToString()
        large, unpacked = bytes(4 * 2**20 + 1), bytes(64 * 2**20)

        assert await code_of(submit(good, timeout=20)) == "OK"
        assert await code_of(submit(large, timeout=20)) == "RESOURCE_EXHAUSTED"
        gzip = grpc.Compression.Gzip
        assert await code_of(submit(unpacked, timeout=20, compression=gzip)) == "RESOURCE_EXHAUSTED"
        refused = await code_of(submit(good, timeout=20, metadata=(("x-large", "a" * 17 * 1024),)))
        # Envoy's own answer is one of HTTP, or the end of the stream.
        assert refused in {"RESOURCE_EXHAUSTED", "UNKNOWN", "INTERNAL", "UNAVAILABLE"}
        assert await code_of(submit(good, timeout=20)) == "OK"

        stub = pb_grpc.RankingServiceStub(channel)
        streams = [stub.StreamSubmitScores() for _ in range(STREAMS)]
        for stream in streams:
            await stream.write(pb.StreamSubmitScoresRequest(sequence=1, submissions=[GOOD]))
            assert (await stream.read()).sequence == 1
        waiting = submit(good, timeout=20)
        done, _ = await asyncio.wait([asyncio.ensure_future(code_of(waiting))], timeout=0.5)
        assert not done
        await streams[0].done_writing()
        assert await streams[0].read() is grpc.aio.EOF
        assert await waiting


async def test_no_call_has_more_time_than_the_server_gives(
    database: str, redis_cluster: EmbeddedRedisCluster, transport: Transport, tmp_path: Path
) -> None:
    """Whatever time it came with: here it would wait for a lock as long as that is held."""
    async with (
        served(
            tmp_path, database, redis_cluster, transport, STANDINGS_SERVER_DEADLINE_MAX_S="0.5"
        ) as channel,
        await psycopg.AsyncConnection.connect(database) as holder,
    ):
        await holder.execute("lock table boards in access exclusive mode")
        call = channel.unary_unary(SUBMIT)(GOOD.SerializeToString(), timeout=20)
        assert await code_of(call) == "DEADLINE_EXCEEDED"


async def test_one_host_does_not_get_all_places(
    database: str, redis_cluster: EmbeddedRedisCluster, transport: Transport, tmp_path: Path
) -> None:
    """Of eight places four, streams counted once; with one of them back there is room again."""
    async with served(
        tmp_path,
        database,
        redis_cluster,
        transport,
        STANDINGS_SERVER_IN_FLIGHT_MAX="8",
        STANDINGS_LIMITS_ANONYMOUS="true",
    ) as channel:
        board = boards.CreateBoardRequest(board=types.Board(board_id="arena"))
        await boards_grpc.BoardServiceStub(channel).CreateBoard(board)
        stub = pb_grpc.RankingServiceStub(channel)
        streams = [stub.StreamSubmitScores() for _ in range(4)]
        for stream in streams:
            await stream.write(pb.StreamSubmitScoresRequest(sequence=1, submissions=[GOOD]))
            assert (await stream.read()).sequence == 1
        with pytest.raises(grpc.aio.AioRpcError, match="too many calls of this caller") as refused:
            await stub.SubmitScore(GOOD, timeout=20)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(refused.value.trailing_metadata() or ())["grpc-retry-pushback-ms"] == "200"

        await streams[0].done_writing()
        assert await streams[0].read() is grpc.aio.EOF
        assert await streams[0].code() is grpc.StatusCode.OK
        assert (await stub.SubmitScore(GOOD, timeout=20)).submission_id
