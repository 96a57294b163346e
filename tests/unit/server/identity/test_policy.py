"""The policy, and what requests are about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import Message

from core.errors import BoardNotFound, InvalidInput, StandingsError
from server.drain import Drain
from server.errors import PermissionDenied, Unauthenticated
from server.health import Health, HealthServicer
from server.identity.identity import ANONYMOUS, NOBODY, Evidence, Identity, Role
from server.identity.policy import POLICY, Boards, check_policy
from server.identity.scope import scope_of
from server.reflection import ReflectionServicer
from server.rpc.admin_servicer import AdminServicer
from server.rpc.boards_servicer import BoardsServicer
from server.rpc.call import CallContext
from server.rpc.chain import UnaryRoute, compose
from server.rpc.interceptors import default_chain
from server.rpc.methods import Method, method_table
from server.rpc.moderation_servicer import ModerationServicer
from server.rpc.ranking_servicer import RankingServicer
from standings.v1 import admin_service_pb2 as admin_pb
from standings.v1 import board_service_pb2 as board_pb
from standings.v1 import moderation_service_pb2 as moderation_pb
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2
from tests.unit.server.fakes import Fakes

ARENA = Identity("eu1", Evidence.CERTIFICATE, frozenset({Role.GAME_SERVER}), game="arena")
PLAYER = Identity("7", Evidence.TOKEN, frozenset({Role.CLIENT}), game="arena", user_id=7)
_PACKAGES = (pb, board_pb, moderation_pb, admin_pb)


def test_every_method_has_a_row_and_every_row_a_method() -> None:
    """All that a server offers is in the table, and the table has nothing else."""
    methods = _methods()

    assert methods.keys() == POLICY.keys()
    check_policy((path, method.request_type) for path, method in methods.items())


def test_a_method_without_a_row_stops_the_start() -> None:
    """Nobody has to remember: a method that the table forgets is not served."""

    class Forgotten:
        service: ClassVar = _forgotten().services_by_name["New"]

        async def act(self, request: Any, call: Any) -> None: ...

    with pytest.raises(LookupError, match=r"/strange\.New/Act has no row"):
        compose(method_table([Forgotten()]), _chain())


def test_a_row_that_overlooks_a_board_stops_the_start() -> None:
    """A method whose requests name boards cannot say that it is about none, nor the reverse."""
    with pytest.raises(LookupError, match="wrong about boards"):
        check_policy([("/standings.v1.AdminService/ListShards", pb.GetEntryRequest)])
    with pytest.raises(LookupError, match="wrong about boards"):
        check_policy([("/standings.v1.RankingService/GetEntry", board_pb.ListBoardsRequest)])


def test_every_board_of_every_request_is_found() -> None:
    """Whatever type of request: a board of another game in any of its fields is refused."""
    seen = 0
    for package in _PACKAGES:
        for service in package.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                if POLICY[path].boards not in {Boards.NAMED, Boards.CREATED}:
                    continue
                for request in _with_board(_type(package, method.input_type.name), "other.daily"):
                    seen += 1
                    with pytest.raises((BoardNotFound, PermissionDenied)):
                        _check(ARENA, request, creates=POLICY[path].boards is Boards.CREATED)

    assert seen == sum(row.boards in {Boards.NAMED, Boards.CREATED} for row in POLICY.values())


@pytest.mark.parametrize(
    ("board_id", "error"),
    [
        ("arena.daily", None),
        ("arena.a.b", None),
        ("arena", BoardNotFound),
        ("arenas.daily", BoardNotFound),
        ("other.daily", BoardNotFound),
        ("other.arena.daily", BoardNotFound),
        ("../arena.daily", BoardNotFound),
        ("", InvalidInput),
    ],
)
def test_a_namespace_is_what_stands_before_the_first_point(
    board_id: str, error: type[Exception] | None
) -> None:
    """A caller of a game has the boards named after it, and no others."""
    request = pb.GetEntryRequest(board_id=board_id)
    if error is None:
        scope_of(type(request)).check(ARENA, request)
    else:
        with pytest.raises(error):
            scope_of(type(request)).check(ARENA, request)
    scope_of(type(request)).check(ANONYMOUS, request)


@pytest.mark.parametrize(
    "request_",
    [
        pb.GetEntryRequest(board_id="arena.x", user_id=8),
        pb.GetEntryRequest(
            board_id="arena.x", user_id=7, options=types_pb2.ReadOptions(viewer_user_id=8)
        ),
        pb.BatchGetEntriesRequest(board_id="arena.x", user_ids=[7, 8]),
        pb.ListEntriesAroundRequest(board_id="arena.x", user_id=8),
        pb.WatchEntriesRequest(board_id="arena.x", user_ids=[8]),
        pb.SubmitScoreRequest(board_id="arena.x", user_id=8),
        pb.ListEntriesRequest(board_id="arena.x", options=types_pb2.ReadOptions(viewer_user_id=8)),
    ],
)
def test_a_player_names_nobody_else(request_: Message) -> None:
    """Every field that names a user may name the player alone."""
    with pytest.raises(PermissionDenied):
        scope_of(type(request_)).check(PLAYER, request_)


def test_a_player_may_name_itself_or_nobody() -> None:
    """One's own number, and none, are no offence."""
    options = types_pb2.ReadOptions(viewer_user_id=7)
    scope_of(pb.GetEntryRequest).check(
        PLAYER, pb.GetEntryRequest(board_id="arena.x", user_id=7, options=options)
    )
    scope_of(pb.ListEntriesRequest).check(PLAYER, pb.ListEntriesRequest(board_id="arena.x"))


async def test_the_chain_lets_through_whom_the_policy_names() -> None:
    """The handler sees the identity; without the role or the evidence it is not reached."""
    handler = _get_board(ARENA)
    call = _call()
    answer = await handler(_board_request("arena.daily"), call)

    assert isinstance(answer, bytes)
    assert call.identity is ARENA


@pytest.mark.parametrize(
    ("who", "code"),
    [
        (NOBODY, "PERMISSION_DENIED"),
        (Unauthenticated("no evidence"), "UNAUTHENTICATED"),
        (ARENA, "NOT_FOUND"),
    ],
)
async def test_the_chain_refuses_whom_it_does_not(who: Any, code: str) -> None:
    """Without evidence, without the role, and outside of the namespace."""
    answer = await _get_board(who)(_board_request("other.daily"), _call())

    assert answer.code.name == code


class _Callers:
    def __init__(self, who: Identity | StandingsError) -> None:
        self._who = who

    def identify(self, _call: CallContext) -> Identity:
        if isinstance(self._who, StandingsError):
            raise self._who
        return self._who

    def use_up(self, call: CallContext, identity: Identity) -> None:
        raise AssertionError


def _get_board(who: Identity | StandingsError) -> Any:
    route = compose(_methods(), _chain(_Callers(who)))["/standings.v1.BoardService/GetBoard"]
    assert isinstance(route, UnaryRoute)
    return route.handler


def _board_request(board_id: str) -> bytes:
    return board_pb.GetBoardRequest(board_id=board_id).SerializeToString()


def _call() -> CallContext:
    return CallContext(None, {}, lambda: "test")


class _NoAudit:
    after: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, name: str) -> None:
        self.name = name

    def unary(self, _method: Method, handler: Any) -> Any:
        return handler

    stream = unary


def _chain(callers: _Callers | None = None) -> Any:
    return default_chain(
        in_flight_max=10,
        deadline_max_s=60,
        slow_call_s=60,
        audit=_NoAudit("audit"),
        refusals=_NoAudit("refusals"),
        identify=callers,
    )


def _methods() -> Mapping[str, Method]:
    fakes: Any = Fakes()
    return method_table(
        [
            RankingServicer(fakes, Drain()),
            BoardsServicer(fakes),
            ModerationServicer(fakes),
            AdminServicer(fakes, fakes, Drain(), fakes, fakes),
            HealthServicer(Health(())),
            ReflectionServicer(()),
        ]
    )


def _type(package: Any, name: str) -> type[Message]:
    return getattr(package, name)  # type: ignore[no-any-return]


def _with_board(type_: type[Message], board_id: str) -> list[Message]:
    """A request for each field that names a board, with everything else empty."""
    found = []
    for field in type_.DESCRIPTOR.fields:
        request: Any = type_()
        if field.name == "board_id":
            request.board_id = board_id
        elif field.name == "board":
            request.board.board_id = board_id
        elif field.name == "submissions":
            request.submissions.add(board_id=board_id)
        else:
            continue
        found.append(request)
    return found


def _check(identity: Identity, request: Any, *, creates: bool) -> None:
    scope = scope_of(type(request))
    for item in getattr(request, "submissions", ()):
        scope_of(type(item)).check(identity, item)
    scope.check(identity, request, creates=creates)


def _forgotten() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="strange.proto", package="strange")
    file.message_type.add(name="Empty")
    service = file.service.add(name="New")
    service.method.add(name="Act", input_type=".strange.Empty", output_type=".strange.Empty")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # type: ignore[no-untyped-call]
    return pool.FindFileByName("strange.proto")  # type: ignore[no-untyped-call]
