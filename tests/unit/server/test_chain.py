"""The chain, the method table and the links between."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2

from core.errors import IndexUnbuilt
from resilience.deadline import DEADLINE_S
from server.audit.link import Audit
from server.audit.refusals import Refusals
from server.rpc.boards_servicer import BoardsServicer
from server.rpc.call import REQUEST_ID, CallContext
from server.rpc.chain import StreamRoute, UnaryRoute, check_order, compose
from server.rpc.interceptors import default_chain
from server.rpc.methods import method_table
from server.rpc.status import RpcFailure
from standings.v1 import admin_service_pb2 as pb
from standings.v1 import ranking_service_pb2 as ranking_pb
from tests.fakes.audit import MemoryAudit
from tests.unit.server.fakes import Fakes

LIST_SHARDS = "/standings.v1.AdminService/ListShards"
WATCH = "/grpc.health.v1.Health/Watch"
STREAM = "/standings.v1.RankingService/StreamSubmitScores"

AUDIT = Audit(MemoryAudit(), None)  # type: ignore[arg-type]


class Admin:
    """An AdminService that does what a test says."""

    service: ClassVar = pb.DESCRIPTOR.services_by_name["AdminService"]

    def __init__(self, act: Any) -> None:
        self._act = act

    async def list_shards(self, _request: Any, call: CallContext) -> pb.ListShardsResponse:
        """Acts."""
        await self._act(call)
        return pb.ListShardsResponse()

    list_breakers = set_breaker = verify_shards = rebuild_shards = get_operation = list_shards
    list_operations = cancel_operation = inject_fault = list_faults = clear_faults = list_shards
    list_audit_events = list_shards

    async def watch_breakers(self, request: Any, call: CallContext) -> AsyncIterator[Any]:
        """Not called."""
        for never in ():
            yield never


class Ranking:
    """A RankingService whose stream does what a test says."""

    service: ClassVar = ranking_pb.DESCRIPTOR.services_by_name["RankingService"]

    def __init__(self, act: Any) -> None:
        self._act = act

    async def submit_score(self, request: Any, call: CallContext) -> None:
        """Not called."""

    batch_submit_scores = get_entry = batch_get_entries = list_entries = submit_score
    list_entries_around = estimate_rank = get_percentile = delete_entry = submit_score

    async def watch_entries(self, request: Any, call: CallContext) -> AsyncIterator[Any]:
        """Acts once, as a watch that goes on until then."""
        await self._act(call)
        yield ranking_pb.WatchEntriesResponse()

    async def stream_submit_scores(
        self, requests: AsyncIterator[Any], call: CallContext
    ) -> AsyncIterator[Any]:
        """Acts for each message, and echoes its number."""
        async for request in requests:
            await self._act(call)
            yield ranking_pb.StreamSubmitScoresResponse(sequence=request.sequence)


def chain(**changes: Any) -> Any:
    """The usual chain with other limits."""
    return default_chain(
        **{
            "in_flight_max": 10,
            "deadline_max_s": 60,
            "slow_call_s": 60,
            "audit": AUDIT,
            "refusals": Refusals(MemoryAudit()),
            **changes,
        }
    )


def unary(act: Any, **changes: Any) -> Any:
    """The composed handler of a method that acts."""
    route = compose(method_table([Admin(act)]), chain(**changes))[LIST_SHARDS]
    assert isinstance(route, UnaryRoute)
    return route.handler


def stream(act: Any, **changes: Any) -> Any:
    """The composed handler of a stream that acts."""
    route = compose(method_table([Ranking(act)]), chain(**changes))[STREAM]
    assert isinstance(route, StreamRoute)
    return route.handler


def call(**changes: Any) -> CallContext:
    """A call without deadline and metadata."""
    return CallContext(**{"deadline_s": None, "metadata": {}, "peer_of": lambda: "test", **changes})


async def nothing(_call: CallContext) -> None:
    """Acts not at all."""


async def messages(*payloads: bytes) -> AsyncIterator[bytes]:
    """A stream of requests."""
    for payload in payloads:
        yield payload


def test_the_order_of_the_chain() -> None:
    """The chain stands as it is written down."""
    names = [link.name for link in chain()]

    assert names == [
        *("request id", "access log", "measure", "error map", "refusals"),
        *("identity", "limits", "in flight", "deadline", "decode", "costs", "scope"),
        *("audit", "sources"),
    ]
    check_order(chain())


def test_a_wrong_order_stops_the_start() -> None:
    """No order but those that keep every 'after' is taken: of all in which one link or two stand
    elsewhere, and of some thousand others.
    """
    whole, rng = chain(), random.Random(1)
    places = range(len(whole))
    shuffled = [rng.sample(whole, len(whole)) for _ in range(2_000)]
    for here, there in itertools.product(places, places):
        moved = list(whole)
        moved.insert(there, moved.pop(here))
        swapped = list(whole)
        swapped[here], swapped[there] = swapped[there], swapped[here]
        shuffled += [moved, swapped]
    for links in shuffled:
        right = all(
            {other.name for other in links[:place]} >= link.after
            for place, link in enumerate(links)
        )
        if right:
            check_order(links)
        else:
            with pytest.raises(ValueError, match="must stand before"):
                compose({}, links)


def test_a_link_stands_once() -> None:
    """A link that stands twice stops the start."""
    links = chain()
    with pytest.raises(ValueError, match="twice"):
        check_order((links[0], *links))


def test_the_table_knows_types_and_streams() -> None:
    """Rows come from the descriptors."""
    row = method_table([Ranking(nothing)])[STREAM]

    assert (row.client_streaming, row.server_streaming) == (True, True)
    assert row.request_type is ranking_pb.StreamSubmitScoresRequest
    assert row.response_type is ranking_pb.StreamSubmitScoresResponse


def test_a_method_without_handler_stops_the_start() -> None:
    """A forgotten method is found before the first call."""

    class Forgetful:
        service: ClassVar = pb.DESCRIPTOR.services_by_name["AdminService"]

    with pytest.raises(TypeError, match="ListShards"):
        method_table([Forgetful()])


def test_a_handler_of_the_wrong_kind_stops_the_start() -> None:
    """A plain function, or a coroutine where a stream is due, is no handler."""

    class Plain:
        service: ClassVar = health_pb2.DESCRIPTOR.services_by_name["Health"]

        async def check(self, request: Any, call: Any) -> None: ...

        async def list(self, request: Any, call: Any) -> None: ...

        async def watch(self, request: Any, call: Any) -> None: ...

    with pytest.raises(TypeError, match="Watch"):
        method_table([Plain()])


def test_two_servicers_of_a_service_stop_the_start() -> None:
    """Which of them would answer must not be chance."""
    servicer = BoardsServicer(Fakes())
    with pytest.raises(ValueError, match="two servicers"):
        method_table([servicer, servicer])


async def test_bytes_in_bytes_out() -> None:
    """A unary call gives the bytes of its answer."""
    assert await unary(nothing)(b"", call()) == b""


async def test_every_call_has_an_id() -> None:
    """The id is in the context and in the context variable; calls do not share one."""
    seen = []

    async def act(given: CallContext) -> None:
        assert given.request_id == REQUEST_ID.get()
        seen.append(given.request_id)

    await unary(act)(b"", call())
    await unary(act)(b"", call())

    assert all(seen)
    assert len(set(seen)) == 2


@pytest.mark.parametrize(
    ("given", "kept"),
    [("caller-1234", True), ("short", False), ("a b\nc defgh", False), ("x" * 65, False)],
)
async def test_a_callers_id_is_kept_if_harmless(given: str, kept: bool) -> None:  # noqa: FBT001
    """What could forge a log line is replaced."""
    context = call(metadata={"x-request-id": given})
    await unary(nothing)(b"", context)

    assert (context.request_id == given) is kept


async def test_cancellation_is_never_answered() -> None:
    """A cancelled call ends as cancelled, whatever stands around it."""
    forever = asyncio.Event()
    entered = asyncio.Event()

    async def act(_call: CallContext) -> None:
        entered.set()
        await forever.wait()

    task = asyncio.create_task(unary(act)(b"", call()))
    await entered.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_spent_deadline_touches_nothing() -> None:
    """A call that comes too late is not handed on."""

    async def act(_call: CallContext) -> None:
        pytest.fail("was called")

    answer = await unary(act)(b"", call(deadline_s=time.monotonic() - 1))

    assert answer.code is StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("own_s", [5, 500, None])
async def test_adapters_know_the_deadline(own_s: float | None) -> None:
    """The caller's or ours, whichever is earlier; a stream's, if it has one."""
    seen: list[float | None] = []

    async def act(_call: CallContext, *_: Any) -> None:
        seen.append(DEADLINE_S.get())

    now_s = time.monotonic()
    deadline_s = None if own_s is None else now_s + own_s
    await unary(act, deadline_max_s=60)(b"", call(deadline_s=deadline_s))
    assert seen.pop() == pytest.approx(now_s + min(own_s or 60, 60), abs=1)
    DEADLINE_S.set(None)
    async for _ in stream(act)(messages(b""), call(deadline_s=deadline_s)):
        pass
    assert seen == [deadline_s]


@pytest.mark.parametrize("deadline_max_s", [0.01, 60])
async def test_time_runs_out(deadline_max_s: float) -> None:
    """The caller's deadline and our own limit both end a call."""

    async def act(_call: CallContext) -> None:
        await asyncio.Event().wait()

    deadline_s = None if deadline_max_s < 1 else time.monotonic() + 0.01
    answer = await unary(act, deadline_max_s=deadline_max_s)(b"", call(deadline_s=deadline_s))

    assert answer.code is StatusCode.DEADLINE_EXCEEDED


async def test_somebody_elses_timeout_is_a_bug() -> None:
    """Only our own clock makes DEADLINE_EXCEEDED."""

    async def act(_call: CallContext) -> None:
        raise TimeoutError

    assert (await unary(act)(b"", call())).code is StatusCode.INTERNAL
    answers = [a async for a in stream(act)(messages(b""), call(deadline_s=time.monotonic() + 60))]
    assert [answer.code for answer in answers] == [StatusCode.INTERNAL]


async def test_too_many_calls() -> None:
    """Beyond the limit calls are refused with a delay; a place is free again after a call."""
    gate = asyncio.Event()

    async def act(_call: CallContext) -> None:
        await gate.wait()

    handler = unary(act, in_flight_max=1)
    first = asyncio.create_task(handler(b"", call()))
    await asyncio.sleep(0)
    refused = await handler(b"", call())
    gate.set()

    assert refused.code is StatusCode.RESOURCE_EXHAUSTED
    assert refused.trailers == (("grpc-retry-pushback-ms", "200"),)
    assert await first == b""
    assert await handler(b"", call()) == b""


async def test_streams_count_and_are_refused_too() -> None:
    """A stream holds its place until its end."""
    handler = stream(nothing, in_flight_max=1)
    first = handler(messages(b"", b""), call())
    await anext(first)
    refused = [answer async for answer in handler(messages(b""), call())]
    await first.aclose()
    again = [answer async for answer in handler(messages(b""), call())]

    assert [answer.code for answer in refused] == [StatusCode.RESOURCE_EXHAUSTED]
    assert again == [b""]


async def test_a_stream_ends_with_its_failure() -> None:
    """What was answered before stays; the failure is the last value."""
    count = 0

    async def act(_call: CallContext) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise IndexUnbuilt

    answers = [a async for a in stream(act)(messages(b"", b"", b""), call())]

    assert answers[0] == b""
    assert (len(answers), answers[1].code) == (2, StatusCode.UNAVAILABLE)


async def test_a_malformed_message_ends_a_stream() -> None:
    """Bytes that are no message give INVALID_ARGUMENT."""
    answers = [a async for a in stream(nothing)(messages(b"", b"\xff"), call())]

    assert answers[0] == b""
    assert answers[1].code is StatusCode.INVALID_ARGUMENT


async def test_a_streams_deadline() -> None:
    """A stream with a deadline ends when it is spent, even while it waits for messages."""

    async def silent() -> AsyncIterator[bytes]:
        yield b""
        await asyncio.Event().wait()

    context = call(deadline_s=time.monotonic() + 0.02)
    answers = [answer async for answer in stream(nothing)(silent(), context)]

    assert answers[0] == b""
    assert answers[1].code is StatusCode.DEADLINE_EXCEEDED


async def test_a_missing_request_is_bad_input() -> None:
    """A method with one request and a stream of answers needs that request."""

    class Watching:
        service: ClassVar = health_pb2.DESCRIPTOR.services_by_name["Health"]

        async def check(self, request: Any, call: Any) -> None: ...

        async def list(self, request: Any, call: Any) -> None: ...

        async def watch(self, request: Any, call: Any) -> AsyncIterator[Any]:
            yield request

    route = compose(method_table([Watching()]), chain())[WATCH]
    answers = [answer async for answer in route.handler(messages(), call())]

    assert [answer.code for answer in answers] == [StatusCode.INVALID_ARGUMENT]


async def test_good_calls_are_logged_for_debugging_only(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is written for a good call, unless somebody looks for it."""
    caplog.set_level(logging.INFO, "server.access")
    await unary(nothing)(b"", call())
    quiet = list(caplog.records)
    caplog.set_level(logging.DEBUG, "server.access")
    await unary(nothing)(b"", call())

    assert quiet == []
    assert [record.message for record in caplog.records] == ["call"]


async def test_slow_calls_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """A call that takes longer than the limit leaves a line."""
    await unary(nothing, slow_call_s=0)(b"", call())

    assert [(r.message, r.levelno) for r in caplog.records] == [("slow call", logging.WARNING)]


async def test_a_bug_is_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """The line carries the id that the caller was told."""

    async def act(_call: CallContext) -> None:
        raise RuntimeError("secret")

    context = call()
    answer = await unary(act)(b"", context)
    (record,) = caplog.records

    assert isinstance(answer, RpcFailure)
    assert record.exc_info[1].args == ("secret",)
    assert (record.request_id, record.code) == (context.request_id, "INTERNAL")


async def test_outages_are_sampled(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand failures alike do not make a thousand lines."""

    async def act(_call: CallContext) -> None:
        raise IndexUnbuilt

    handler = unary(act)
    for _ in range(1000):
        await handler(b"", call())

    assert 1 <= len(caplog.records) <= 5
    assert caplog.records[0].reason == "IndexUnbuilt"


class Tracing:
    """A core.tracing.Tracer that traces nothing."""

    asked = 0

    def begin(self, method: str, metadata: Any) -> None:
        """Never a span."""
        self.asked += 1


async def test_tracing_is_in_the_chain_only_where_it_is_wanted() -> None:
    """Then behind the request id and before the log, whose lines name the trace."""
    tracer = Tracing()
    names = [link.name for link in chain(tracer=tracer)]
    await unary(nothing, tracer=tracer)(b"", call())

    assert [name for name in names if name != "trace"] == [link.name for link in chain()]
    assert names.index("request id") < names.index("trace") < names.index("access log")
    assert tracer.asked == 1
