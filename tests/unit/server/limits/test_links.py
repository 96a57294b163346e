"""The links that keep callers to their share: what is refused, how it is told, what it costs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from prometheus_client import REGISTRY

from bootstrap.limit_settings import LimitSettings
from bootstrap.server_settings import ServerSettings
from bootstrap.settings import Settings, StateSettings
from server.drain import Drain
from server.errors import RateLimited
from server.health import Health, HealthServicer
from server.identity.identity import ANONYMOUS, Evidence, Identity, Role
from server.identity.policy import POLICY, Kind
from server.limits.accounts import Account, Accounts, accounts_of
from server.limits.buckets import SharedTimes
from server.limits.costs import cost_of
from server.rpc.call import CallContext
from server.rpc.chain import Route, UnaryRoute, compose
from server.rpc.interceptors import default_chain
from server.rpc.methods import Method, method_table
from server.rpc.ranking_servicer import RankingServicer
from server.rpc.status import RpcFailure
from server.rpc.stream_submit import SubmitStream
from standings.v1 import admin_service_pb2 as admin
from standings.v1 import board_service_pb2 as boards
from standings.v1 import ranking_service_pb2 as pb
from tests.unit.server.fakes import MINTED_ID, Fakes, submission
from tests.unit.server.identity.test_policy import _methods, _NoAudit

EU1 = Identity("game-server/eu1", Evidence.TOKEN, frozenset({Role.GAME_SERVER}))
EU2 = Identity("game-server/eu2", Evidence.TOKEN, frozenset({Role.GAME_SERVER}))
PLAYER = Identity("client/arena/7", Evidence.TOKEN, frozenset({Role.CLIENT}), "arena", 7)
RANKING = "/standings.v1.RankingService/"


class Callers:
    """Takes each call's word for who it is."""

    def identify(self, call: CallContext) -> Identity:
        """Who it says it is."""
        return call.metadata["who"]  # type: ignore[return-value]

    def use_up(self, call: CallContext, identity: Identity) -> None:
        """Nothing is used up."""


def accounts(in_flight_max: int = 10, **settings: Any) -> Accounts:
    """Accounts of a worker that is alone, by a clock that stands still."""
    shared = SharedTimes.open(None)
    shared.clock = lambda: 1_000.0
    server = ServerSettings(in_flight_max=in_flight_max)
    return Accounts(LimitSettings(**settings), server, shared)


def routes(fakes: Fakes, given: Accounts | None) -> Mapping[str, Route]:
    """The methods of games behind the whole chain."""
    use_cases: Any = fakes
    chain = default_chain(
        in_flight_max=10,
        deadline_max_s=60,
        slow_call_s=60,
        audit=_NoAudit("audit"),
        refusals=_NoAudit("refusals"),
        identify=Callers(),
        accounts=given,
    )
    servicers = [RankingServicer(use_cases, Drain()), HealthServicer(Health(()))]
    return compose(method_table(servicers), chain)


def fields_of(failure: RpcFailure) -> tuple[StatusCode, str, int, int]:
    """Code, reason, and after how many ms to try again by the trailer and the details."""
    status = Status.FromString(failure.details)
    info, retry = ErrorInfo(), RetryInfo()
    status.details[0].Unpack(info)
    status.details[1].Unpack(retry)
    told = dict(failure.trailers)["grpc-retry-pushback-ms"]
    return failure.code, info.reason, int(told), retry.retry_delay.ToMilliseconds()


async def ask(served: Mapping[str, Route], name: str, request: Any, who: Identity) -> Any:
    """What a unary method says to a caller."""
    route = served[RANKING + name]
    assert isinstance(route, UnaryRoute)
    call = CallContext(None, {"who": who}, lambda: "test")  # type: ignore[dict-item]
    return await route.handler(request.SerializeToString(), call)


class Reads:
    """Use cases of which each answers that there is nothing."""

    def __getattr__(self, name: str) -> Any:
        def nothing(*_: Any, **__: Any) -> Any:
            raise RuntimeError(name)

        return nothing


async def _admitted(served: Mapping[str, Route], name: str, request: Any, who: Identity) -> int:
    """How many calls get as far as the use case until one is refused."""
    count = 0
    while (failure := await ask(served, name, request, who)).code is StatusCode.INTERNAL:
        count += 1
        assert count < 10_000
    assert fields_of(failure)[1] == "RATE_LIMITED"
    return count


async def test_a_refusal_says_when_to_come_back(caplog: pytest.LogCaptureFixture) -> None:
    """RESOURCE_EXHAUSTED with the reason, and the time in trailer and details; counted by role and
    kind, and named in the log. Other callers, and other kinds, go on.
    """
    served = routes(Reads(), accounts(reads_per_s=4, writes_per_s=4))  # type: ignore[arg-type]
    labels = {"role": "game-server", "kind": "reads", "reason": "RATE_LIMITED"}
    before = REGISTRY.get_sample_value("standings_limited_calls_total", labels) or 0
    request = pb.GetEntryRequest(board_id="arena", user_id=1)

    with caplog.at_level(logging.WARNING):
        assert await _admitted(served, "GetEntry", request, EU1) == 8
        refused = await ask(served, "GetEntry", request, EU1)

    assert fields_of(refused) == (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", 250, 250)
    assert REGISTRY.get_sample_value("standings_limited_calls_total", labels) == before + 2
    (line,) = [one for one in caplog.records if one.message == "callers were refused"]
    assert line.__dict__["most"] == {"game-server/eu1": 1}
    assert await _admitted(served, "GetEntry", request, EU2) == 8
    assert await _admitted(served, "SubmitScore", submission(), EU1) == 8


@pytest.mark.parametrize(
    ("name", "request_", "cost"),
    [
        ("GetEntry", pb.GetEntryRequest(board_id="arena", user_id=1), 1),
        ("ListEntries", pb.ListEntriesRequest(board_id="arena"), 1),
        ("ListEntries", pb.ListEntriesRequest(board_id="arena", page_size=11), 2),
        ("ListEntries", pb.ListEntriesRequest(board_id="arena", page_size=1000), 100),
        ("ListEntriesAround", pb.ListEntriesAroundRequest(board_id="arena", user_id=1), 5),
        ("BatchGetEntries", pb.BatchGetEntriesRequest(board_id="arena", user_ids=range(1, 31)), 30),
        ("BatchSubmitScores", pb.BatchSubmitScoresRequest(submissions=[submission()] * 70), 70),
    ],
    ids=str,
)
async def test_calls_cost_what_they_ask_for(name: str, request_: Any, cost: int) -> None:
    """Of 1,000 tokens, as many calls as begin with one left."""
    served = routes(Reads(), accounts(reads_per_s=500, writes_per_s=500))  # type: ignore[arg-type]

    assert await _admitted(served, name, request_, EU1) == -(-1000 // cost)


async def test_a_refused_call_is_not_decoded() -> None:
    """Without a token even bytes that are no message are just refused."""
    served = routes(Reads(), accounts(writes_per_s=1, burst_s=1))  # type: ignore[arg-type]
    route = served[RANKING + "BatchSubmitScores"]
    assert isinstance(route, UnaryRoute)
    codes = []
    for _ in range(2):
        call = CallContext(None, {"who": EU1}, lambda: "test")  # type: ignore[dict-item]
        answer = await route.handler(b"\xff", call)
        assert isinstance(answer, RpcFailure)
        codes.append(answer.code)

    assert codes == [StatusCode.INVALID_ARGUMENT, StatusCode.RESOURCE_EXHAUSTED]


async def test_a_caller_has_its_share_of_the_places() -> None:
    """Half of the worker's places, by default; the other half is there for others."""
    gate = asyncio.Event()

    class Slow:
        async def submit_scores(self, *_: Any) -> Any:
            await gate.wait()

        def __getattr__(self, name: str) -> Any:
            return lambda: MINTED_ID

    served = routes(Slow(), accounts(in_flight_max=10))  # type: ignore[arg-type]
    waiting = [
        asyncio.create_task(ask(served, "SubmitScore", submission(), who))
        for who in (*[EU1] * 5, *[EU2] * 4)
    ]
    await asyncio.sleep(0)
    refused = await ask(served, "SubmitScore", submission(), EU1)
    assert fields_of(refused) == (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS", 200, 200)
    assert not any(task.done() for task in waiting)

    gate.set()
    await asyncio.gather(*waiting)
    later = await ask(served, "SubmitScore", submission(), EU1)
    assert later.code is not StatusCode.RESOURCE_EXHAUSTED


async def test_players_have_rates_of_their_own() -> None:
    """A role's rate stands in place of the common one; of several roles the best decides; 0 is no
    limit.
    """
    both = Identity("client/arena/8", Evidence.TOKEN, frozenset({Role.CLIENT, Role.GAME_SERVER}))
    given = accounts(
        writes_per_s=50, reads_per_s=0, roles="client.writes=3, client.reads=5", burst_s=1
    )

    def tokens(who: Identity, kind: Kind) -> int:
        account, count = given.of(who, "test"), 0
        with contextlib.suppress(RateLimited):
            while count < 1_000:
                account.take(kind)
                count += 1
        return count

    assert tokens(PLAYER, Kind.WRITES) == 3
    assert tokens(PLAYER, Kind.READS) == 5
    assert tokens(both, Kind.WRITES) == 50
    assert tokens(both, Kind.READS) == 1_000
    assert tokens(EU1, Kind.READS) == 1_000


async def test_a_bounded_number_of_callers_is_remembered() -> None:
    """Names that come once push each other out; what a caller has used is known all the same."""
    given = accounts(callers_max=100, writes_per_s=1, burst_s=2)
    first = given.of(EU1, "test")
    first.take(Kind.WRITES)
    first.take(Kind.WRITES)
    for number in range(1_000):
        given.of(Identity(f"client/{number}", Evidence.TOKEN, PLAYER.roles), "test")
    assert len(given._accounts) == 100

    again = given.of(EU1, "test")
    assert again is not first
    with pytest.raises(Exception, match="more than its rate"):
        again.take(Kind.WRITES)


def test_nobody_is_limited_where_nobody_is_asked(tmp_path: Any) -> None:
    """Unless that is wanted: then each host has the limits of a game server."""
    state = StateSettings(directory=tmp_path)
    assert accounts_of(Settings(state=state), asked=False) is None
    limits = LimitSettings(anonymous=True)
    given = accounts_of(Settings(state=state, limits=limits), asked=False)
    assert given is not None

    here = given.of(ANONYMOUS, "ipv4:10.0.0.1:5000")
    assert here.role == "game-server"
    assert here is given.of(ANONYMOUS, "ipv4:10.0.0.1:5001")
    assert here is not given.of(ANONYMOUS, "ipv4:10.0.0.2:5000")


async def test_health_always_answers() -> None:
    """However empty a caller's buckets are; a method that is never refused has no kind."""
    unlimited = {path for path, rule in POLICY.items() if rule.kind is None}
    assert all(path.startswith("/grpc.") for path in unlimited)
    assert len(unlimited) == 4


class _Stream:
    """A stream of submissions, with an account on a clock of its own."""

    name: ClassVar = "stream"

    def __init__(self, rate_per_s: float) -> None:
        self.now_s = 1_000.0
        shared = SharedTimes.open(None)
        shared.clock = lambda: self.now_s
        settings = LimitSettings(writes_per_s=rate_per_s, burst_s=1)
        self.account: Account = Accounts(settings, ServerSettings(), shared).of(EU1, "test")
        self.read = 0

    async def requests(self) -> Any:
        """Six messages of 100 submissions."""
        for sequence in range(6):
            self.read += 1
            yield pb.StreamSubmitScoresRequest(
                sequence=sequence, submissions=[submission(user_id=7)] * 100
            )


async def test_a_stream_is_slowed_and_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read as far as there are tokens, then at its rate, and everything is acknowledged."""
    stream = _Stream(rate_per_s=200)
    slept: list[tuple[int, float]] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append((stream.read, seconds))
        stream.now_s += seconds + 1e-6
        await real_sleep(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    submit = SubmitStream(
        stream.requests(), Fakes(), lambda: MINTED_ID, Drain(), EU1, stream.account
    )

    answered = [answer.sequence async for answer in submit.answers()]

    assert sorted(answered) == [*range(6)]
    # 200 at once, and of each further hundred one has to be there before it is read.
    assert [read for read, _ in slept] == [2, 3, 4, 5, 6]
    assert sum(seconds for _, seconds in slept) == pytest.approx((6 * 100 - 199) / 200, rel=1e-3)


def test_every_method_has_a_price() -> None:
    """By the type of its request; of streams, by what comes in."""
    methods: Mapping[str, Method] = _methods()
    priced = {path.rpartition("/")[2] for path, method in methods.items() if cost_of(method)}
    assert priced == {
        *("BatchSubmitScores", "BatchGetEntries", "ListEntries", "ListEntriesAround"),
        *("ListBoards", "ListAuditEvents"),
    }
    for request in (admin.ListAuditEventsRequest, boards.ListBoardsRequest):
        method = next(one for one in methods.values() if one.request_type is request)
        cost = cost_of(method)
        assert cost is not None
        assert [cost(request(page_size=size)) for size in (-5, 0, 10, 11, 10**9)] == [
            *(1, 1, 1, 2, 100)
        ]
