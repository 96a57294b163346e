"""Watches over the chain: what is refused, what is sent, and how a watch ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from bootstrap.watch_settings import WatchSettings
from core.errors import Draining, IndexUnavailable, InvalidInput
from core.types import RankedEntry, RankMode, ReadOptions
from core.watch_entries import WatchEvent, WatchLimits, WatchMessage, WatchTarget
from server.audit.link import Audit
from server.audit.refusals import Refusals
from server.drain import Drain
from server.rpc.call import CallContext
from server.rpc.chain import StreamRoute, UnaryRoute, compose
from server.rpc.codec.watch import encode_message
from server.rpc.interceptors import default_chain
from server.rpc.methods import Method
from server.rpc.status import RpcFailure
from server.rpc.watch_stream import WatchStream
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2 as types_pb
from tests.fakes.audit import MemoryAudit
from tests.unit.server.fakes import META, STANDING

MESSAGE = WatchMessage(
    WatchEvent.CHANGES, (RankedEntry(STANDING, rank=3),), (7, 8), META, "a token"
)


class Watch:
    """A use case that gives one message and then waits."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.waiting = asyncio.Event()
        self.failure: Exception | None = None
        self.closed = False

    async def __call__(
        self, board_id: str, target: WatchTarget, **arguments: Any
    ) -> AsyncGenerator[WatchMessage, None]:
        """Watches."""
        self.asked.append((board_id, target, arguments))
        try:
            yield MESSAGE
            if self.failure is not None:
                raise self.failure
            self.waiting.set()
            await asyncio.Event().wait()
        finally:
            self.closed = True


def request(**fields: Any) -> pb.WatchEntriesRequest:
    """A good request, with some fields changed."""
    return pb.WatchEntriesRequest(**{"board_id": "arena", "top_count": 10, **fields})


def stream(
    watch: Watch,
    asked: pb.WatchEntriesRequest,
    *,
    drain: Drain | None = None,
    peer: str = "ipv4:x:1",
) -> WatchStream:
    """A watch of a caller."""
    return WatchStream(asked, watch, drain or Drain(), CallContext(None, {}, lambda: peer))


async def asked_for(asked: pb.WatchEntriesRequest, *, peer: str = "ipv4:x:1") -> Any:
    """What the use case is asked."""
    watch = Watch()
    async with aclosing(stream(watch, asked, peer=peer).answers()) as answers:
        await anext(answers)
    return watch.asked[0]


async def test_a_request_is_understood() -> None:
    """Every field comes to the use case; users once and in order."""
    board_id, target, arguments = await asked_for(
        request(
            top_count=0,
            user_ids=[9, 3, 9],
            min_interval=Duration(nanos=250_000_001),
            resume_token="abc",
            options={"rank_mode": types_pb.RANK_MODE_COMPETITION, "season_id": "s1"},
        ),
        peer="ipv6:%5B::1%5D:4711",
    )

    assert (board_id, target) == ("arena", WatchTarget(user_ids=(3, 9)))
    assert arguments == {
        "min_interval_ms": 251,
        "resume_token": "abc",
        "options": ReadOptions(rank_mode=RankMode.COMPETITION, season_id="s1"),
        "caller": "ipv6:%5B::1%5D",
    }


async def test_what_is_not_said_is_usual() -> None:
    """A second between messages, ordinal ranks, the current season."""
    _, target, arguments = await asked_for(request(), peer="unix:")

    assert target == WatchTarget(top_count=10)
    assert arguments == {
        "min_interval_ms": 1000,
        "resume_token": "",
        "options": ReadOptions(),
        "caller": "unix",
    }


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"board_id": "A"}, "board_id"),
        ({"top_count": 0}, "top_count"),
        ({"top_count": -1}, "top_count"),
        ({"top_count": 1001}, "top_count"),
        ({"user_ids": [1]}, "top_count"),
        ({"top_count": 0, "user_ids": [1, 0]}, "user_ids[1]"),
        ({"top_count": 0, "user_ids": range(1, 102)}, "user_ids"),
        ({"min_interval": Duration(nanos=99_999_999)}, "min_interval"),
        ({"min_interval": Duration(seconds=60, nanos=1)}, "min_interval"),
        ({"min_interval": Duration(seconds=-1)}, "min_interval"),
        ({"min_interval": Duration(seconds=1, nanos=-1)}, "min_interval"),
        ({"min_interval": Duration()}, "min_interval"),
        ({"resume_token": "a b"}, "resume_token"),
        ({"options": {"max_staleness": Duration()}}, "options.max_staleness"),
        ({"options": {"consistency_token": "x"}}, "options.consistency_token"),
        ({"options": {"allow_partial": True}}, "options.allow_partial"),
        ({"options": {"view": 2}}, "options.view"),
        ({"options": {"viewer_user_id": 1}}, "options.viewer_user_id"),
        ({"options": {"season_id": "S"}}, "options.season_id"),
        ({"options": {"rank_mode": 9}}, "options.rank_mode"),
    ],
)
async def test_bad_requests_are_refused(fields: Any, field: str) -> None:
    """Before anything is watched, and by the name of the field."""
    watch = Watch()
    with pytest.raises(InvalidInput) as caught:
        await anext(stream(watch, request(**fields)).answers())

    assert (caught.value.field, watch.asked) == (field, [])


def test_a_message_is_encoded_once() -> None:
    """All of it, and the same object for all who are told it."""
    answer = encode_message(MESSAGE)

    assert (answer.event, answer.resume_token) == (pb.WATCH_EVENT_CHANGES, "a token")
    assert [(entry.user_id, entry.rank, entry.list_rank) for entry in answer.entries] == [
        (42, 3, 0)
    ]
    assert list(answer.removed_user_ids) == [7, 8]
    assert (answer.meta.stale, answer.meta.season_id) == (True, "s1")
    assert encode_message(MESSAGE) is answer


async def test_a_watch_ends_when_the_worker_goes_away() -> None:
    """Also in the middle of its wait; what it held is let go."""
    watch, drain = Watch(), Drain()
    answers = stream(watch, request(), drain=drain).answers()
    await anext(answers)

    async def follow() -> None:
        async for _ in answers:
            pass

    following = asyncio.create_task(follow())
    await watch.waiting.wait()
    drain.start()
    with pytest.raises(Draining):
        await following

    assert watch.closed
    assert following.cancelling() == 0
    assert drain._callbacks == set()
    with pytest.raises(Draining):
        await anext(stream(Watch(), request(), drain=drain).answers())


async def test_a_caller_who_goes_away_is_no_drain() -> None:
    """A cancelled watch stays cancelled, and lets everything go."""
    watch, drain = Watch(), Drain()
    answers = stream(watch, request(), drain=drain).answers()
    await anext(answers)
    following = asyncio.ensure_future(anext(answers))
    await watch.waiting.wait()
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following

    assert watch.closed
    assert drain._callbacks == set()


def routes(watch: Watch) -> Any:
    """A watch and a unary call behind one chain that lets one call in."""

    async def watch_entries(asked: Any, call: CallContext) -> Any:
        async with aclosing(WatchStream(asked, watch, Drain(), call).answers()) as answers:
            async for answer in answers:
                yield answer

    async def get_entry(asked: Any, call: CallContext) -> pb.GetEntryResponse:
        return pb.GetEntryResponse()

    package = "/standings.v1.RankingService"
    watching = Method(
        f"{package}/WatchEntries",
        pb.WatchEntriesRequest,
        pb.WatchEntriesResponse,
        client_streaming=False,
        server_streaming=True,
        handler=watch_entries,
    )
    getting = Method(
        f"{package}/GetEntry",
        pb.GetEntryRequest,
        pb.GetEntryResponse,
        client_streaming=False,
        server_streaming=False,
        handler=get_entry,
    )
    audit = Audit(MemoryAudit(), None)  # type: ignore[arg-type]  # neither method is audited
    chain = default_chain(
        in_flight_max=1,
        deadline_max_s=60,
        slow_call_s=60,
        audit=audit,
        refusals=Refusals(MemoryAudit()),
    )
    return compose({"watch": watching, "get": getting}, chain)


class Requests:
    """A stream of one request."""

    def __init__(self, asked: pb.WatchEntriesRequest) -> None:
        self._requests = iter([asked.SerializeToString()])

    def __aiter__(self) -> Requests:
        return self

    async def __anext__(self) -> bytes:
        for each in self._requests:
            return each
        raise StopAsyncIteration


async def test_watches_leave_room_for_calls() -> None:
    """As many watches as one likes, and the one call that is allowed is answered."""
    composed = routes(Watch())
    route, unary = composed["watch"], composed["get"]
    assert isinstance(route, StreamRoute)
    assert isinstance(unary, UnaryRoute)
    watches = [
        route.handler(Requests(request()), CallContext(None, {}, lambda: "ipv4:x:1"))
        for _ in range(5)
    ]
    messages = [await anext(watch) for watch in watches]
    answer = await unary.handler(b"", CallContext(None, {}, lambda: "ipv4:x:1"))
    for watch in watches:
        await watch.aclose()

    assert [pb.WatchEntriesResponse.FromString(m).resume_token for m in messages] == ["a token"] * 5
    # One answer for all, serialized once.
    assert len(set(map(id, messages))) == 1
    assert answer == b""


async def test_a_failing_watch_is_told_its_status() -> None:
    """What the use case raises ends the stream as it would end a call."""
    watch = Watch()
    watch.failure = IndexUnavailable()
    route = routes(watch)["watch"]
    answers = [
        answer
        async for answer in route.handler(
            Requests(request()), CallContext(None, {}, lambda: "ipv4:x:1")
        )
    ]

    assert isinstance(answers[-1], RpcFailure)
    assert answers[-1].error is watch.failure


def test_settings_are_the_cores_limits() -> None:
    """What is not set is as the core has it, and every setting comes to its place."""
    settings = WatchSettings(
        watches_max=7, watches_per_caller_max=5, boards_max=9, users_max=300, heartbeat_s=2
    )

    assert WatchSettings().limits() == WatchLimits()
    assert settings.limits() == WatchLimits(7, 5, 9, 300, 2)
