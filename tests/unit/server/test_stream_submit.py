"""Streams of submissions: order, acknowledgements, limits and every way to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from core.errors import Draining, InvalidInput, LedgerUnavailable, QueueFull
from server.drain import Drain
from server.rpc.stream_submit import UNACKNOWLEDGED_MAX, SubmitStream
from standings.v1 import ranking_service_pb2 as pb
from standings.v1.ranking_service_pb2_grpc import RankingServiceStub
from tests.unit.server.fakes import MINTED_ID, Fakes, Serving, details_of, submission


def message(sequence: int, *user_ids: int) -> pb.StreamSubmitScoresRequest:
    """A message of good submissions."""
    return pb.StreamSubmitScoresRequest(
        sequence=sequence, submissions=[submission(user_id=user_id) for user_id in user_ids]
    )


class Caller:
    """One stream, driven by hand. `reading` counts the messages that the stream asked for."""

    def __init__(self) -> None:
        self.fakes = Fakes()
        self.drain = Drain()
        self.sent: asyncio.Queue[pb.StreamSubmitScoresRequest | None] = asyncio.Queue()
        self.asked = 0
        stream = SubmitStream(self._requests(), self.fakes, lambda: MINTED_ID, self.drain)
        self.answers = stream.answers()

    async def _requests(self) -> AsyncIterator[pb.StreamSubmitScoresRequest]:
        while True:
            self.asked += 1
            request = await self.sent.get()
            if request is None:
                return
            yield request

    def send(self, *messages: pb.StreamSubmitScoresRequest | None) -> None:
        """Sends messages; None is the caller's half-close."""
        for each in messages:
            self.sent.put_nowait(each)

    def hold(self, *user_ids: int) -> None:
        """Submissions of these users wait."""
        for user_id in user_ids:
            self.fakes.gates[user_id] = asyncio.Event()

    async def next(self) -> int:
        """The number of the next acknowledged message."""
        answer = await anext(self.answers)
        return answer.sequence

    async def rest(self) -> list[int]:
        """The numbers of all messages acknowledged from here to a good end."""
        return [answer.sequence async for answer in self.answers]


async def turns(count: int = 50) -> None:
    """Lets everything that can run, run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_messages_are_taken_in_order() -> None:
    """Submissions come to the use case in the order of the messages, and a half-close ends OK."""
    caller = Caller()
    caller.send(*(message(n, n) for n in range(1, 101)), None)
    acknowledged = await caller.rest()
    users = [items[0].user_id for (items,) in caller.fakes.arguments]

    assert users == sorted(acknowledged) == list(range(1, 101))


async def test_acknowledgements_overtake() -> None:
    """A message that waits holds up nobody behind it."""
    caller = Caller()
    caller.hold(1)
    caller.send(message(1, 1), message(2, 2), None)
    second = await caller.next()
    caller.fakes.gates[1].set()

    assert (second, await caller.rest()) == (2, [1])


async def test_items_fail_in_their_place() -> None:
    """A malformed item of a message is told in its place."""
    caller = Caller()
    caller.send(message(1, 5, 0, 6), None)
    answer = await anext(caller.answers)

    assert ["response", "error", "response"] == [r.WhichOneof("result") for r in answer.results]
    assert answer.results[1].error.message.startswith("submissions[1].user_id")
    assert (answer.consistency_token, answer.results[0].response.consistency_token) == ("token", "")


async def test_reading_stops_at_the_limit() -> None:
    """Nothing is read while 4,096 submissions or more are unacknowledged."""
    caller = Caller()
    caller.hold(1)
    caller.send(*(message(n, *[1] * 1000) for n in range(1, 8)))
    waiting = asyncio.create_task(caller.next())
    await turns()
    taken = caller.fakes.calls.copy()
    caller.fakes.gates[1].set()
    await waiting
    caller.send(None)
    rest = await caller.rest()

    assert UNACKNOWLEDGED_MAX == 4096
    assert len(taken) == 5
    assert sorted([*rest, 1]) == [1, 2, 3, 4, 5, 6, 7]


async def test_unread_answers_stop_the_reading() -> None:
    """What was answered still counts until the transport took it: a slow reader costs no memory."""
    caller = Caller()
    caller.send(*(message(n, *[1] * 1000) for n in range(1, 20)))
    await caller.next()
    await turns(200)
    read_behind_the_first = len(caller.fakes.calls)
    await caller.next()
    await caller.next()
    await turns(200)

    assert (5, 7) == (read_behind_the_first, len(caller.fakes.calls))
    await caller.answers.aclose()


async def test_a_full_queue_stops_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream waits for room in the queue, and keeps its order."""
    monkeypatch.setattr(QueueFull, "retry_after_ms", 1)
    caller = Caller()
    caller.fakes.error = QueueFull()
    caller.send(message(1, 1), message(2, 2), None)
    acknowledged = asyncio.create_task(caller.rest())
    await caller.fakes.entered.wait()
    caller.fakes.error = None
    answered = await acknowledged

    assert ([1, 2], [1, 2]) == (answered, caller.fakes.finished)


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_bad_envelope_ends_the_stream(count: int) -> None:
    """The answers of what was read before still come; what follows is not read."""
    caller = Caller()
    caller.hold(1)
    caller.send(message(1, 1), message(2, *[1] * count), message(3, 3))
    first = asyncio.create_task(caller.next())
    await turns()
    caller.fakes.gates[1].set()

    assert await first == 1
    with pytest.raises(InvalidInput):
        await caller.next()
    assert caller.fakes.calls == ["submit_scores"]


async def test_a_failed_write_ends_the_stream() -> None:
    """A failure that is nobody's item ends the stream after the other answers."""
    caller = Caller()
    caller.send(message(1, 1))
    assert await caller.next() == 1
    caller.fakes.error = LedgerUnavailable()
    caller.send(message(2, 2))

    with pytest.raises(LedgerUnavailable):
        await caller.next()


async def test_drain_finishes_what_was_read() -> None:
    """On drain the reading stops, what was read is answered, and the end says why."""
    caller = Caller()
    caller.hold(1)
    caller.send(message(1, 1))
    first = asyncio.create_task(caller.next())
    await caller.fakes.entered.wait()
    caller.drain.start()
    caller.send(message(2, 2))
    await turns()
    caller.fakes.gates[1].set()

    assert await first == 1
    with pytest.raises(Draining):
        await caller.next()
    assert caller.fakes.finished == [1]
    assert await caller.drain.finished(1)


async def test_a_stream_that_comes_too_late() -> None:
    """A stream that begins on a worker that is going away ends at once, with nothing read."""
    caller = Caller()
    caller.drain.start()
    caller.send(message(1, 1))

    with pytest.raises(Draining):
        await caller.next()
    assert (0, []) == (caller.asked, caller.fakes.calls)


async def test_a_caller_who_goes_leaves_no_work_half_done() -> None:
    """What was read is recorded after a cancel; the stream itself is gone at once."""
    caller = Caller()
    caller.hold(1)
    caller.send(message(1, 1), message(2, 2))
    assert await caller.next() == 2
    waiting = asyncio.create_task(caller.next())
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    caller.send(message(3, 3))
    assert not await caller.drain.finished(0)
    caller.fakes.gates[1].set()

    assert await caller.drain.finished(1)
    assert caller.fakes.finished == [2, 1]


# --- over the wire ------------------------------------------------------------------------------


async def test_half_close_over_the_wire(serving: Serving) -> None:
    """All messages are acknowledged, and the stream ends OK."""
    stream = serving.ranking.StreamSubmitScores()
    for n in range(1, 51):
        await stream.write(message(n, n))
    await stream.done_writing()
    acknowledged = [answer.sequence async for answer in stream]

    assert sorted(acknowledged) == list(range(1, 51))
    assert await stream.code() is grpc.StatusCode.OK


async def test_bad_envelope_over_the_wire(serving: Serving) -> None:
    """The stream ends with INVALID_ARGUMENT behind its answers."""
    stream = serving.ranking.StreamSubmitScores()
    await stream.write(message(1, 1))
    await stream.write(message(2))
    answer = await stream.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()

    assert (1, grpc.StatusCode.INVALID_ARGUMENT) == (answer.sequence, caught.value.code())
    assert details_of(caught.value)["BadRequest"].field_violations[0].field == "submissions"


async def test_malformed_message_over_the_wire(serving: Serving) -> None:
    """Bytes that are no message end the stream behind its answers."""
    stream = serving.channel.stream_stream("/standings.v1.RankingService/StreamSubmitScores")()
    await stream.write(message(1, 1).SerializeToString())
    await stream.write(b"\xff\xff")
    answer = pb.StreamSubmitScoresResponse.FromString(await stream.read())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()

    assert (1, grpc.StatusCode.INVALID_ARGUMENT) == (answer.sequence, caught.value.code())


async def test_cancel_over_the_wire(serving: Serving) -> None:
    """A cancelled stream leaves its submissions to be recorded, and the server goes on."""
    serving.fakes.gates[1] = asyncio.Event()
    stream = serving.ranking.StreamSubmitScores()
    await stream.write(message(1, 1))
    await serving.fakes.entered.wait()
    stream.cancel()
    serving.fakes.gates[1].set()
    await serving.ranking.SubmitScore(submission(user_id=2))
    await serving.server.stop()

    assert sorted(serving.fakes.finished) == [1, 2]


async def test_drain_over_the_wire(serving: Serving) -> None:
    """A stop of the server ends streams with UNAVAILABLE, after the answers and with the reason."""
    serving.fakes.gates[1] = asyncio.Event()
    stream = serving.ranking.StreamSubmitScores()
    await stream.write(message(1, 1))
    await serving.fakes.entered.wait()
    changed = asyncio.ensure_future(serving.health.changed())
    stopping = asyncio.create_task(serving.server.stop())
    await changed
    serving.fakes.gates[1].set()
    answer = await stream.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    await stopping
    details = details_of(caught.value)

    assert (1, grpc.StatusCode.UNAVAILABLE) == (answer.sequence, caught.value.code())
    assert details["ErrorInfo"].reason == "DRAINING"
    assert details["trailers"]["grpc-retry-pushback-ms"] == "100"


async def test_a_slow_reader_over_the_wire(serving: Serving) -> None:
    """Who reads no answers is soon not read any more: the socket holds back, not the memory."""
    # A small and fixed window, so that the transport itself holds few answers.
    options = (("grpc.http2.lookahead_bytes", 65_536), ("grpc.http2.bdp_probe", 0))
    address = f"127.0.0.1:{serving.server.port}"
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stream = RankingServiceStub(channel).StreamSubmitScores()

        async def write() -> None:
            for n in range(1, 41):
                await stream.write(message(n, *[7] * 1000))
            await stream.done_writing()

        writing = asyncio.create_task(write())
        await asyncio.wait((writing,), timeout=0.5)
        taken = len(serving.fakes.calls)
        acknowledged = [answer.sequence async for answer in stream]
        await writing

    assert taken < 10
    assert sorted(acknowledged) == list(range(1, 41))
