"""What the transport makes of strange calls and of failures."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator

import grpc
import pytest

from bootstrap.server_settings import ServerSettings
from core.errors import BoardNotFound, IndexUnavailable, QueueFull
from server.rpc.call import CallContext
from server.rpc.chain import StreamRoute, UnaryRoute
from server.rpc.methods import Method
from server.transport.grpcio import GrpcioListener
from standings.v1 import ranking_service_pb2 as pb
from tests.unit.server.fakes import Serving, details_of, submission

SUBMIT = "/standings.v1.RankingService/SubmitScore"


@pytest.mark.parametrize("path", ["/standings.v1.RankingService/Nonsense", "/x/y", "/"])
async def test_unknown_methods(serving: Serving, path: str) -> None:
    """What is not in the table is UNIMPLEMENTED."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.channel.unary_unary(path)(b"")

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    "greeting", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", bytes(4096)]
)
async def test_other_protocols(serving: Serving, greeting: bytes) -> None:
    """Who speaks no HTTP/2 is sent away, and the next call works."""
    reader, writer = await asyncio.open_connection("127.0.0.1", serving.server.port)
    writer.write(greeting)
    writer.write_eof()
    async with asyncio.timeout(10):
        await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()

    assert (await serving.ranking.SubmitScore(submission())).submission_id


async def _refused(serving: Serving, call: grpc.aio.UnaryUnaryCall[bytes, bytes]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert serving.fakes.calls == []
    assert (await serving.ranking.SubmitScore(submission())).submission_id


async def test_a_message_too_large(serving: Serving) -> None:
    """More than 4 MiB is refused before it is read, and the next call works."""
    await _refused(serving, serving.channel.unary_unary(SUBMIT)(bytes(4 * 1024 * 1024 + 1)))


async def test_a_message_that_grows(serving: Serving) -> None:
    """A small message that unpacks to a large one is refused all the same."""
    call = serving.channel.unary_unary(SUBMIT)(
        bytes(64 * 1024 * 1024), compression=grpc.Compression.Gzip
    )
    await _refused(serving, call)


async def test_too_much_metadata(serving: Serving) -> None:
    """17 KiB of metadata are too many."""
    metadata = (("x-large", "a" * 17 * 1024),)
    await _refused(serving, serving.channel.unary_unary(SUBMIT)(b"", metadata=metadata))


async def test_the_largest_batch_fits(serving: Serving) -> None:
    """1,000 submissions with the most metadata that is allowed are one message."""
    large = submission(
        submission_id="01890a5d-ac96-774b-bcce-b302099a8057", metadata={"a": "x" * 1016}
    )
    request = pb.BatchSubmitScoresRequest(submissions=[large] * 1000)
    answer = await serving.ranking.BatchSubmitScores(request)

    assert request.ByteSize() > 1024 * 1024
    assert len(answer.results) == 1000


async def test_a_deadline_of_a_millisecond(serving: Serving) -> None:
    """The call ends in time, and the next one works."""
    serving.fakes.gates[42] = asyncio.Event()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.ranking.SubmitScore(submission(), timeout=0.001)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await serving.ranking.SubmitScore(submission(user_id=1))).submission_id


@pytest.mark.parametrize("class_", [RuntimeError, ValueError, OSError, KeyError])
async def test_a_bug_leaks_nothing(
    serving: Serving, class_: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """INTERNAL with a request id that leads to the traceback in the log, and nothing else."""
    serving.fakes.error = class_("secret dsn")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.ranking.SubmitScore(submission())
    details = details_of(caught.value)
    (record,) = (r for r in caplog.records if r.levelno == logging.ERROR)

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error"
    assert "secret" not in repr((caught.value, details["trailers"]))
    assert details["ErrorInfo"].metadata["request_id"] == record.request_id


async def test_a_bug_in_a_stream_leaks_nothing(serving: Serving) -> None:
    """A stream keeps as quiet as a call."""
    serving.fakes.error = RuntimeError("secret dsn")
    stream = serving.ranking.StreamSubmitScores()
    await stream.write(pb.StreamSubmitScoresRequest(submissions=[submission()]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()

    assert (grpc.StatusCode.INTERNAL, "internal error") == (
        caught.value.code(),
        caught.value.details(),
    )


async def test_failures_carry_their_details(serving: Serving) -> None:
    """Reason, delay and trailer arrive at the caller."""
    serving.fakes.error = BoardNotFound()
    with pytest.raises(grpc.aio.AioRpcError) as not_found:
        await serving.ranking.GetEntry(pb.GetEntryRequest(board_id="arena", user_id=1))
    serving.fakes.error = IndexUnavailable()
    with pytest.raises(grpc.aio.AioRpcError) as unavailable:
        await serving.ranking.GetEntry(pb.GetEntryRequest(board_id="arena", user_id=1))
    serving.fakes.error = QueueFull()
    with pytest.raises(grpc.aio.AioRpcError) as full:
        await serving.ranking.SubmitScore(submission())

    assert not_found.value.code() is grpc.StatusCode.NOT_FOUND
    assert details_of(not_found.value)["ErrorInfo"].reason == "BOARD_NOT_FOUND"
    assert "grpc-retry-pushback-ms" not in details_of(not_found.value)["trailers"]
    assert unavailable.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details_of(unavailable.value)["trailers"]["grpc-retry-pushback-ms"] == "100"
    assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details_of(full.value)["RetryInfo"].retry_delay.ToMilliseconds() == 200


async def test_an_item_that_fails_alone_is_the_calls_error(serving: Serving) -> None:
    """SubmitScore raises what a batch would tell in a place."""
    serving.fakes.refusal = BoardNotFound()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.ranking.SubmitScore(submission())

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_cancelled_calls_leave_no_error(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """A caller who goes away is no failure of ours."""
    serving.fakes.gates[42] = asyncio.Event()
    call = serving.ranking.SubmitScore(submission())
    running = asyncio.ensure_future(call)
    await serving.fakes.entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await serving.ranking.SubmitScore(submission(user_id=1))

    assert [] == [record for record in caplog.records if record.levelno >= logging.WARNING]


class _Flood:
    """A stream that never ends, of messages that fill a connection's buffers soon."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def __call__(
        self, _requests: AsyncIterator[bytes], _call: CallContext
    ) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield bytes(32 * 1024)
        finally:
            self.closed.set()


@pytest.fixture
async def flood() -> AsyncIterator[tuple[_Flood, grpc.aio.Channel]]:
    """A listener that floods whoever calls, and gives up on who does not read."""
    flood = _Flood()
    method = Method(
        "/x/Flood",
        pb.WatchEntriesRequest,
        pb.WatchEntriesResponse,
        client_streaming=False,
        server_streaming=True,
        handler=flood,
    )
    listener = GrpcioListener(
        {"/x/Flood": StreamRoute(method, flood)}, ServerSettings(send_timeout_s=0.3)
    )
    port = await listener.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield flood, channel
    await listener.stop(0)


async def test_who_does_not_read_is_given_up(flood: tuple[_Flood, grpc.aio.Channel]) -> None:
    """The stream is closed on our side at once; whoever reads after all is told why."""
    flooding, channel = flood
    call = channel.unary_stream("/x/Flood")(b"")
    async with asyncio.timeout(20):
        await flooding.closed.wait()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details_of(caught.value)["ErrorInfo"].reason == "NOT_READ"


async def test_who_does_not_read_can_go_away(flood: tuple[_Flood, grpc.aio.Channel]) -> None:
    """A stream that was given up and then cancelled leaves the listener as it was."""
    flooding, channel = flood
    call = channel.unary_stream("/x/Flood")(b"")
    async with asyncio.timeout(20):
        await flooding.closed.wait()
        call.cancel()
        flooding.closed.clear()
        again = channel.unary_stream("/x/Flood")(b"")
        messages = [await again.read() for _ in range(20)]
        again.cancel()
        await flooding.closed.wait()

    assert {len(message) for message in messages} == {32 * 1024}


async def _echo(request: bytes, _call: CallContext) -> bytes:
    await asyncio.sleep(0.001)
    return request


async def test_an_end_under_load_cancels_nothing() -> None:
    """Callers without retries go over to who shares the port; what was sent is answered."""
    method = Method(
        "/x/Echo",
        pb.GetEntryRequest,
        pb.GetEntryResponse,
        client_streaming=False,
        server_streaming=False,
        handler=_echo,
    )
    routes = {"/x/Echo": UnaryRoute(method, _echo)}
    settings = ServerSettings(reuse_port=True)
    listeners = [GrpcioListener(routes, settings) for _ in range(2)]
    port = await listeners[0].start("127.0.0.1:0")
    ended = asyncio.Event()

    async def call() -> int:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            echo = channel.unary_unary("/x/Echo")
            calls = 0
            while not ended.is_set():
                assert await echo(b"x", timeout=20) == b"x"
                calls += 1
            return calls

    callers = [asyncio.create_task(call()) for _ in range(24)]
    await asyncio.sleep(0.2)
    await listeners[1].start(f"127.0.0.1:{port}")
    await listeners[0].stop(5)
    await asyncio.sleep(0.2)
    ended.set()
    calls = await asyncio.gather(*callers)
    await listeners[1].stop(5)

    assert sum(calls) > 24 * 10
