"""What Envoy and the ASGI application in it make of strange calls, of callers who go and of those
who do not read; over the wire, on real stores.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.embedded.waiting import until
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings.v1.ranking_service_pb2_grpc import RankingServiceStub
from standings_client import AsyncClient, Board, Submission
from tests.fakes.making import submission_id
from tests.fixtures.processes import ServerProcess, server_process
from tests.fixtures.redis import empty
from tests.fixtures.server import settings_for

pytestmark = [pytest.mark.alone, pytest.mark.envoy]

SERVICE = "/standings.v1.RankingService/"
UNREAD_MAX = 64
"""Messages of about 12 KiB for a caller who does not read: what its stream and its connection hold
and Envoy's buffers, well below the number of states there were."""


@pytest.fixture
async def server(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path
) -> AsyncIterator[ServerProcess]:
    """A server with one worker behind Envoy, and a board."""
    await empty(redis_cluster)
    with_envoy = {"STANDINGS_SERVER_TRANSPORT": "envoy", "STANDINGS_SERVER_WORKERS": "1"}
    settings = settings_for(database, redis_cluster)
    async with server_process(settings, tmp_path, **with_envoy) as server:
        async with AsyncClient(server.address, timeout_s=20) as client:
            await client.boards.create(Board(board_id="arena"))
        yield server


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    """A plain connection."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel


def _submission(**fields: int) -> pb.SubmitScoreRequest:
    return pb.SubmitScoreRequest(
        board_id="arena", submission_id=submission_id(), **({"user_id": 1, "score": 1} | fields)
    )


async def _told(call: grpc.aio.Call) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code()


async def test_strange_calls(channel: grpc.aio.Channel) -> None:
    """Each gets its own status, and the next call works."""
    submit = channel.unary_unary(SERVICE + "SubmitScore")
    gzip = grpc.Compression.Gzip
    assert await _told(channel.unary_unary(SERVICE + "Nonsense")(b"")) is _code("UNIMPLEMENTED")
    assert await _told(channel.unary_unary("/")(b"")) is _code("UNIMPLEMENTED")
    assert await _told(submit(b"\xff")) is _code("INVALID_ARGUMENT")
    assert await _told(submit(bytes(4 * 2**20 + 1))) is _code("RESOURCE_EXHAUSTED")
    assert await _told(submit(bytes(64 * 2**20), compression=gzip)) is _code("RESOURCE_EXHAUSTED")
    # Envoy says so by HTTP, before there is a call.
    too_much = (("x-large", "a" * 17 * 1024),)
    assert await _told(submit(b"", metadata=too_much)) in {
        _code("UNKNOWN"),
        _code("INTERNAL"),
        _code("RESOURCE_EXHAUSTED"),
        _code("UNAVAILABLE"),
    }
    answer = await submit(_submission().SerializeToString(), compression=gzip)
    assert pb.SubmitScoreResponse.FromString(answer).indexed


def _code(name: str) -> grpc.StatusCode:
    return grpc.StatusCode[name]


@pytest.mark.parametrize(
    "greeting", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", bytes(4096)]
)
async def test_other_protocols(
    server: ServerProcess, channel: grpc.aio.Channel, greeting: bytes
) -> None:
    """Who speaks no HTTP/2 is sent away, and the next call works."""
    reader, writer = await asyncio.open_connection(*server.address.split(":"))
    writer.write(greeting)
    writer.write_eof()
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            await reader.read()
    writer.close()

    assert (await RankingServiceStub(channel).SubmitScore(_submission())).indexed


async def test_the_largest_batch_fits(channel: grpc.aio.Channel) -> None:
    """Nearly 4 MiB, far more than the transport holds at once, and nothing of it is lost."""
    items = [_submission(user_id=user, score=user) for user in range(1, 1001)]
    for item in items:
        item.metadata.update({"note": "ä" * 500})
    request = pb.BatchSubmitScoresRequest(submissions=items)
    assert request.ByteSize() > 2**20

    answer = await RankingServiceStub(channel).BatchSubmitScores(request)

    assert [result.response.entry.score for result in answer.results] == [*range(1, 1001)]


async def test_a_watcher_who_goes_is_noticed(server: ServerProcess) -> None:
    """Although nothing is sent on either side."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        request = pb.WatchEntriesRequest(board_id="arena", top_count=3)
        call = RankingServiceStub(channel).WatchEntries(request)
        await call.read()
        assert await _in_flight(server, 1)
        call.cancel()
        assert await _in_flight(server, 0)


async def test_a_deadline_of_the_server_ends_a_stream(
    server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    """While it waits for its caller to send more: the status has details, and what the transport
    was asked for comes to nobody's surprise.
    """
    # The caller's own library does not know of it, and so does not end the call by itself.
    timeout = (("grpc-timeout", "200m"),)
    calls = [RankingServiceStub(channel).StreamSubmitScores(metadata=timeout) for _ in range(20)]
    for call in calls:
        assert await call.code() is _code("DEADLINE_EXCEEDED")
        assert "grpc-status-details-bin" in dict(iter(await call.trailing_metadata()))

    assert await RankingServiceStub(channel).SubmitScore(_submission())
    assert [line for line in server.lines if line.get("logger") == "asyncio"] == []


async def test_who_cancels_disturbs_nobody(channel: grpc.aio.Channel) -> None:
    """Thousands of calls given up on one connection, and none of the others on it fails."""
    stub = RankingServiceStub(channel)
    cancelling = asyncio.ensure_future(_cancel(stub))
    answered = 0
    while not cancelling.done():
        await stub.ListEntries(pb.ListEntriesRequest(board_id="arena"), timeout=20)
        answered += 1

    assert await cancelling > 2_000
    assert answered


async def _cancel(stub: pb_grpc.RankingServiceAsyncStub) -> int:
    """How many of 4,000 calls were given up before there was an answer."""
    count = 0
    for _ in range(80):
        calls = [stub.SubmitScore(_submission(user_id=user)) for user in range(1, 51)]
        await asyncio.sleep(0.003)
        count += sum(call.cancel() for call in calls)
        await asyncio.wait([asyncio.ensure_future(call.code()) for call in calls])
    return count


async def _in_flight(server: ServerProcess, count: int) -> bool:
    async def is_told() -> bool:
        return (await server.metrics())["standings_calls_in_flight"] == count

    return await until(is_told, timeout_s=10)


async def test_who_does_not_read_is_not_written_to(server: ServerProcess) -> None:
    """A watcher that reads nothing while the board changes is told of its last state after what
    was on its way, not of all there were.
    """
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
    async with (
        AsyncClient(server.address, timeout_s=20) as client,
        grpc.aio.insecure_channel(server.address, options=options) as channel,
    ):
        request = pb.WatchEntriesRequest(board_id="arena", top_count=1000)
        request.min_interval.FromMilliseconds(100)
        call = RankingServiceStub(channel).WatchEntries(request)
        for score in range(150):
            users = range(1, 1001)
            await client.batch_submit_scores([Submission("arena", u, score + u) for u in users])
        scores: dict[int, int] = {}
        count = 0
        async with asyncio.timeout(60):
            while scores.get(1000) != 149 + 1000:
                message = await call.read()
                count += 1
                scores.update((entry.user_id, entry.score) for entry in message.entries)
        call.cancel()

    assert 1 <= count <= UNREAD_MAX
