"""Many scores over one stream: order, grouping, bounds, and what a broken stream costs."""

import asyncio
import queue
import threading
from typing import Any

import pytest
from grpc import StatusCode

from standings.v1 import ranking_service_pb2 as pb
from standings_client import (
    AsyncClient,
    Cancelled,
    Client,
    InvalidArgument,
    PermissionDenied,
    StreamOptions,
    Unavailable,
)
from standings_client._window import Progress
from tests.unit.clients.faces import Either, FakeTime
from tests.unit.clients.fake_server import Fake, acknowledged, applied, refuse, status_of

pytestmark = pytest.mark.timeout(30)


class Gate:
    """Lets a scripted stream wait for the test, and the test for the stream."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.met = queue.SimpleQueue()

    def hold_first(self, messages: Any, context: Any) -> Any:
        """Holds the first message until the gate opens, then acknowledges all."""
        for message in messages:
            self.met.put(message)
            self.open.wait()
            yield acknowledged(message)


def acknowledge_then_break(
    count: int, code: StatusCode = StatusCode.UNAVAILABLE, **said: Any
) -> Any:
    """Acknowledges `count` messages, reads one more, and breaks."""

    def handler(messages: Any, context: Any) -> Any:
        for number, message in enumerate(messages):
            if number == count:
                refuse(code, **said)(message, context)
            yield acknowledged(message)

    return handler


def listen_only(fake: Fake) -> Any:
    """A stream that stays open without any answer, until the test is over."""

    def handler(messages: Any, context: Any) -> Any:
        yield from ()
        fake.released.wait()

    return handler


def sent(messages: Any) -> Any:
    """(user, score, id) of everything in these messages, in order."""
    return [
        (one.user_id, one.score, one.submission_id)
        for message in messages
        for one in message.submissions
    ]


async def submit_all(client: Either, scores: Any, options: Any = None) -> Any:
    """The result or error of each score, all submitted through one submitter."""
    if isinstance(client.client, Client):
        return await asyncio.to_thread(_submit_all_by_thread, client.client, scores, options)
    async with client.client.stream_submitter(options) as submitter:
        futures = [await submitter.submit("board", 1 + score % 3, score) for score in scores]
    return await asyncio.gather(*futures, return_exceptions=True)


def _submit_all_by_thread(client: Client, scores: Any, options: Any) -> Any:
    with client.stream_submitter(options) as submitter:
        futures = [submitter.submit("board", 1 + score % 3, score) for score in scores]
    return [future.exception() or future.result() for future in futures]


async def test_each_score_gets_its_own_result(client: Either, fake: Fake) -> None:
    """Three thousand scores arrive once and in order, in fewer messages, under distinct ids."""
    results = await submit_all(client, range(3_000))

    (messages,) = fake.received
    assert [score for _, score, _ in sent(messages)] == list(range(3_000))
    assert [result.entry.score for result in results] == list(range(3_000))
    assert len({result.submission_id for result in results}) == 3_000
    assert max(len(message.submissions) for message in messages) <= 500


async def test_a_lone_score_is_sent_at_once(client: Either, fake: Fake) -> None:
    """Nothing waits for company, and no message is empty."""
    await submit_all(client, [5])

    assert [len(message.submissions) for message in fake.received[0]] == [1]


async def test_what_queues_up_goes_together(async_client: AsyncClient, fake: Fake) -> None:
    """What is submitted in one go becomes one message, up to its bound."""
    options = StreamOptions(message_count_max=4)
    async with async_client.stream_submitter(options) as submitter:
        for score in range(6):
            await submitter.submit("board", 1, score)

    assert [len(message.submissions) for message in fake.received[0]] == [4, 2]


async def test_submit_waits_while_too_many_are_unanswered(
    async_client: AsyncClient, fake: Fake
) -> None:
    """The bound holds: one more submission waits until an answer makes room."""
    gate = Gate()
    fake.tell_stream(gate.hold_first)
    async with async_client.stream_submitter(StreamOptions(in_flight_count_max=3)) as submitter:
        for score in range(3):
            await submitter.submit("board", 1, score)
        await asyncio.to_thread(gate.met.get)
        one_more = asyncio.ensure_future(submitter.submit("board", 1, 3))
        done, _ = await asyncio.wait({one_more}, timeout=0.05)
        gate.open.set()
        result = await (await one_more)

    assert done == set()
    assert result.entry.score == 3


def test_submit_waits_in_its_thread_too(sync_client: Client, fake: Fake) -> None:
    """The same bound for threads."""
    gate = Gate()
    fake.tell_stream(gate.hold_first)
    with sync_client.stream_submitter(StreamOptions(in_flight_count_max=1)) as submitter:
        submitter.submit("board", 1, 0)
        gate.met.get()
        late = []
        thread = threading.Thread(target=lambda: late.append(submitter.submit("board", 1, 1)))
        thread.start()
        thread.join(timeout=0.05)
        waited = thread.is_alive()
        gate.open.set()
        thread.join()

    assert waited
    assert late[0].result().entry.score == 1


@pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.CANCELLED])
async def test_a_broken_stream_is_opened_again(
    client: Either, fake: Fake, fake_time: FakeTime, code: StatusCode
) -> None:
    """The unanswered are sent anew, in order and under the same ids, to the last one.

    How many of the server's two answers arrived before the break is the network's choice.
    """
    fake.tell_stream(acknowledge_then_break(2, code))

    results = await submit_all(client, range(1_200), StreamOptions(message_count_max=100))

    first, second = (sent(messages) for messages in fake.received)
    begin = second[0][1]
    everything = first[:begin] + second
    assert [score for _, score, _ in everything] == list(range(1_200))
    assert first[begin:] == second[: len(first) - begin]
    assert [result.submission_id for result in results] == [one for _, _, one in everything]
    assert fake_time.sleeps == [0.05]


async def test_a_stream_the_server_ended_is_opened_again(client: Either, fake: Fake) -> None:
    """An end without an error is no answer either."""

    def end_after_first(messages: Any, context: Any) -> Any:
        yield acknowledged(next(messages))

    fake.tell_stream(end_after_first)

    results = await submit_all(client, range(10), StreamOptions(message_count_max=1))

    assert [result.entry.score for result in results] == list(range(10))


async def test_the_servers_wish_delays_the_next_stream(
    client: Either, fake: Fake, fake_time: FakeTime
) -> None:
    """Pushback counts for streams too."""
    fake.tell_stream(acknowledge_then_break(0, pushback="250"))

    await submit_all(client, [1])

    assert fake_time.sleeps == [0.25]


async def test_it_gives_up_without_progress(
    client: Either, fake: Fake, fake_time: FakeTime
) -> None:
    """After 30 s of failed streams the futures fail with Unavailable, and leaving returns."""
    fake.tell_stream(*[acknowledge_then_break(0, StatusCode.CANCELLED)] * 100)

    results = await submit_all(client, [1, 2])

    assert [type(result) for result in results] == [Unavailable, Unavailable]
    assert 25 < sum(fake_time.sleeps) < 30


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_it_gives_up_on_a_server_that_only_listens(
    kind: Any, address: str, fake: Fake
) -> None:
    """A stream that stays open without any answer is given up as well."""
    fake.tell_stream(listen_only(fake))
    client = kind(address)

    results = await submit_all(Either(client), [1], StreamOptions(give_up_s=0.1))

    await Either(client).call("close")
    assert [type(result) for result in results] == [Unavailable]


async def test_another_failure_is_told_at_once(
    client: Either, fake: Fake, fake_time: FakeTime
) -> None:
    """What a retry cannot mend fails everything unanswered with its own error."""
    fake.tell_stream(acknowledge_then_break(0, StatusCode.PERMISSION_DENIED))

    results = await submit_all(client, [1])

    assert [type(result) for result in results] == [PermissionDenied]
    assert fake_time.sleeps == []


async def test_an_items_error_fails_only_its_future(client: Either, fake: Fake) -> None:
    """The others of its message have their results."""

    def refuse_second(messages: Any, context: Any) -> Any:
        status = status_of(StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
        for message in messages:
            yield pb.StreamSubmitScoresResponse(
                sequence=message.sequence,
                results=[
                    pb.BatchSubmitResult(error=status)
                    if one.score == 1
                    else pb.BatchSubmitResult(response=applied(one))
                    for one in message.submissions
                ],
            )

    fake.tell_stream(refuse_second)

    first, second, third = await submit_all(client, range(3))

    assert isinstance(second, InvalidArgument)
    assert (first.entry.score, third.entry.score) == (0, 2)


async def test_ids_in_the_future_are_made_anew_in_order(client: Either, fake: Fake) -> None:
    """All are refused by a wrong clock, and all arrive in order under ids of the right one."""
    told_ms = 1_700_000_000_000

    def refuse_future(messages: Any, context: Any) -> Any:
        status = status_of(
            StatusCode.INVALID_ARGUMENT,
            "SUBMISSION_ID_IN_FUTURE",
            metadata={"server_time_ms": str(told_ms)},
        )
        for message in messages:
            future = message.submissions[0].submission_id > "018bcfe5-7000"
            refused = [pb.BatchSubmitResult(error=status)] * len(message.submissions)
            yield (
                pb.StreamSubmitScoresResponse(sequence=message.sequence, results=refused)
                if future
                else acknowledged(message)
            )

    fake.tell_stream(refuse_future)

    results = await submit_all(client, range(20), StreamOptions(message_count_max=4))

    kept = [score for _, score, one in sent(fake.received[0]) if one < "018bcfe5-7000"]
    assert kept == list(range(20))
    assert [result.entry.score for result in results] == list(range(20))


async def test_flush_waits_for_all_so_far(async_client: AsyncClient) -> None:
    """After flush every future is done."""
    async with async_client.stream_submitter() as submitter:
        futures = [await submitter.submit("board", 1, score) for score in range(100)]
        await submitter.flush()
        done = [future.done() for future in futures]

    assert all(done)


async def test_leaving_by_an_error_still_flushes(async_client: AsyncClient) -> None:
    """What was submitted before the error of the caller is answered."""
    futures = []

    async def leave_by_an_error() -> None:
        async with async_client.stream_submitter() as submitter:
            futures.append(await submitter.submit("board", 1, 1))
            raise KeyError

    with pytest.raises(KeyError):
        await leave_by_an_error()

    assert futures[0].result().entry.score == 1


async def test_nothing_is_submitted_after_leaving(async_client: AsyncClient) -> None:
    """A submitter that was left takes no more."""
    async with async_client.stream_submitter() as submitter:
        pass

    with pytest.raises(RuntimeError):
        await submitter.submit("board", 1, 1)


async def test_what_cannot_be_written_takes_no_room(async_client: AsyncClient) -> None:
    """A submission that no message can hold raises and leaves the submitter as it was."""
    async with async_client.stream_submitter(StreamOptions(in_flight_count_max=1)) as submitter:
        with pytest.raises(ValueError, match="range"):
            await submitter.submit("board", 1, 2**63)
        future = await submitter.submit("board", 1, 1)

    assert future.result().entry.score == 1


async def test_a_client_closed_under_a_submitter_leaves_nobody_waiting(address: str) -> None:
    """Its futures are done; with an answer where the stream outlived the channel a moment."""
    client = AsyncClient(address)
    async with client.stream_submitter() as submitter:
        await (await submitter.submit("board", 1, 1))
        await client.close()
        future = await submitter.submit("board", 1, 2)

    assert isinstance(future.exception(), Unavailable | None)


async def test_a_fault_of_the_client_leaves_nobody_waiting(
    client: Either, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that is nobody's error still ends the futures."""
    fake.tell_stream(listen_only(fake))

    def fail(*_: Any) -> None:
        raise KeyError

    monkeypatch.setattr(Progress, "stalled", fail)
    monkeypatch.setattr(Progress, "patience_s", lambda _: -1.0)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    results = await submit_all(client, [1])

    assert [type(result) for result in results] == [Cancelled]


@pytest.mark.parametrize("options", [{"in_flight_count_max": 4_097}, {"message_count_max": 0}])
def test_bounds_beyond_the_contract_are_refused(options: Any) -> None:
    """The server reads no further than 4,096, and takes 1 to 1,000 a message."""
    with pytest.raises(ValueError, match="1 to"):
        StreamOptions(**options)
