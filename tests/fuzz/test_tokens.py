"""Tokens that are not what was given: refused at every place that takes one, before any store."""

from __future__ import annotations

import atexit
import base64
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc import StatusCode
from hypothesis import given

from core.audit_lines import Action
from core.batch_get_entries import BatchGetEntries
from core.estimate_rank import EstimateRank
from core.get_entry import GetEntry
from core.get_percentile import GetPercentile
from core.list_audit_events import ListAuditEvents
from core.list_entries import ListEntries
from core.list_entries_around import ListEntriesAround
from core.manage_boards import ManageBoards
from core.tokens import TokenSigner, Writes
from core.types import Board, Season
from core.watch_entries import WatchEntries, WatchLimits
from resilience.machine import MachineFile
from server.rpc.status import RpcFailure
from standings.v1 import admin_service_pb2 as admin_pb
from standings.v1 import board_service_pb2 as board_pb
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2
from tests.fakes.audit import MemoryAudit
from tests.fakes.making import board_spec
from tests.fakes.memory_index import MemoryIndex, reading_of
from tests.fuzz.choices import BYTES, Choices, budget, mutated
from tests.fuzz.routes import answers_of, routes_of
from tests.unit.server.fakes import BREAKERS, Fakes

BOARD = Board(1, board_spec("arena"), Season(1, "s1"), 1, 0, 0)
RANKING = "/standings.v1.RankingService/"
LIST_BOARDS = "/standings.v1.BoardService/ListBoards"
LIST_AUDIT = "/standings.v1.AdminService/ListAuditEvents"
WITH_OPTIONS = ("get", "batch", "around", "estimate", "percentile", "list")


@dataclass
class Boards:
    """A store of many boards that counts how often it is listed."""

    asked: list[str] = field(default_factory=list)

    async def list(self, *, after: str, limit: int, prefix: str = "") -> Sequence[Board]:
        """Some."""
        self.asked.append("list")
        names = [name for name in ("arena", "b", "c") if name > after and name.startswith(prefix)]
        return [replace(BOARD, spec=board_spec(name)) for name in names[:limit]]


class World:
    """The use cases that take tokens, over stores in memory that count what they are asked."""

    def __init__(self, state: Path) -> None:
        self.index, self.boards, self.audit = MemoryIndex(), Boards(), MemoryAudit()
        for user in range(1, 31):
            self.index.put(BOARD, (user, user, 0), arrival=user)
        reading = reading_of(self.index, BOARD)
        self.signer: TokenSigner = reading.signer
        fakes = Fakes()
        manage: Any = ManageBoards(self.boards, None, None, None, self.signer)  # type: ignore[arg-type]
        use_cases: Any = replace(
            fakes.use_cases(MachineFile(state, BREAKERS)),
            get_entry=GetEntry(reading),
            batch_get_entries=BatchGetEntries(reading),
            list_entries=ListEntries(reading),
            list_entries_around=ListEntriesAround(reading),
            estimate_rank=EstimateRank(reading),
            get_percentile=GetPercentile(reading),
            watch_entries=WatchEntries(reading, WatchLimits()),
            manage_boards=manage,
            list_audit_events=ListAuditEvents(self.audit, self.audit, self.signer),
        )
        self.routes = routes_of(use_cases)

    async def ask(self, path: str, request: Message) -> bytes | RpcFailure:
        """The first answer."""
        return (await answers_of(self.routes[path], [request.SerializeToString()]))[0]

    @property
    def asked(self) -> list[str]:
        """What the stores were asked."""
        return [*self.index.asked, *self.boards.asked, *self.audit.asked]

    def forget(self) -> None:
        """Nothing was asked yet."""
        for store in (self.index, self.boards, self.audit):
            store.asked.clear()


_STATE = tempfile.TemporaryDirectory(prefix="standings-test-")
atexit.register(_STATE.cleanup)
WORLD = World(Path(_STATE.name))


def options(token: str) -> types_pb2.ReadOptions:
    """A read with a consistency token."""
    return types_pb2.ReadOptions(consistency_token=token)


PLACES: Mapping[str, tuple[str, Callable[[str], Message]]] = {
    "get": (
        RANKING + "GetEntry",
        lambda token: pb.GetEntryRequest(board_id="arena", user_id=3, options=options(token)),
    ),
    "batch": (
        RANKING + "BatchGetEntries",
        lambda token: pb.BatchGetEntriesRequest(
            board_id="arena", user_ids=[3], options=options(token)
        ),
    ),
    "around": (
        RANKING + "ListEntriesAround",
        lambda token: pb.ListEntriesAroundRequest(
            board_id="arena", user_id=3, options=options(token)
        ),
    ),
    "estimate": (
        RANKING + "EstimateRank",
        lambda token: pb.EstimateRankRequest(board_id="arena", score=3, options=options(token)),
    ),
    "percentile": (
        RANKING + "GetPercentile",
        lambda token: pb.GetPercentileRequest(board_id="arena", percent=3, options=options(token)),
    ),
    "list": (
        RANKING + "ListEntries",
        lambda token: pb.ListEntriesRequest(board_id="arena", options=options(token)),
    ),
    "page": (
        RANKING + "ListEntries",
        lambda token: pb.ListEntriesRequest(board_id="arena", page_size=3, page_token=token),
    ),
    "watch": (
        RANKING + "WatchEntries",
        lambda token: pb.WatchEntriesRequest(board_id="arena", top_count=3, resume_token=token),
    ),
    "boards": (LIST_BOARDS, lambda token: board_pb.ListBoardsRequest(page_token=token)),
    "audit": (LIST_AUDIT, lambda token: admin_pb.ListAuditEventsRequest(page_token=token)),
}


Tokens = Mapping[str, frozenset[str]]


async def told(path: str, request: Message) -> Any:
    """An answer, as a message."""
    answer = await WORLD.ask(path, request)
    assert isinstance(answer, bytes), answer
    return WORLD.routes[path].method.response_type.FromString(answer)


@pytest.fixture(scope="module")
async def right() -> Tokens:
    """The tokens that are right at each place, as callers get them."""
    first = await told(RANKING + "ListEntries", PLACES["page"][1](""))
    second = await told(RANKING + "ListEntries", PLACES["page"][1](first.next_page_token))
    boards = await told(LIST_BOARDS, board_pb.ListBoardsRequest(page_size=1))
    for _ in range(2):
        await WORLD.audit.begin(Action("s/M", "target"))
    audit = await told(LIST_AUDIT, admin_pb.ListAuditEventsRequest(page_size=1))
    writes = (
        Writes(1, ((100, 2), (101, 1))),
        Writes(0, ((100, 0xFFFF),), b"abcd"),
        Writes(1, ()),
    )
    return {
        **dict.fromkeys(WITH_OPTIONS, frozenset(map(WORLD.signer.consistency, writes))),
        "page": frozenset({first.next_page_token, second.previous_page_token}),
        "boards": frozenset({boards.next_page_token}),
        "audit": frozenset({audit.next_page_token}),
        # Well made, and of another question: at this place there is no right one.
        "watch": frozenset(
            {WORLD.signer.watch_state(season_number=1, question=b"another", state=bytes(8))}
        ),
    }


def damaged(choices: Choices, tokens: Tokens) -> str:
    """A token of whatever place, as it is or after accidents: to its text, or to its bytes."""
    token = choices.one_of(sorted(token for each in tokens.values() for token in each))
    match choices.below(4):
        case 0:
            return token
        case 1:
            data = mutated(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), choices)
            return base64.urlsafe_b64encode(data).decode().rstrip("=")
        case 2:
            return mutated(token.encode(), choices).decode("latin-1")
        case _:
            return token + choices.one_of(("=", "A", " ", "\n", "\0", token))


@pytest.mark.parametrize("place", PLACES)
@budget(300)
@given(data=BYTES)
async def test_no_token_but_the_right_one_is_taken(place: str, data: bytes, right: Tokens) -> None:
    """Any other is INVALID_ARGUMENT, and no store was asked anything about entries, boards and
    events.
    """
    path, request = PLACES[place]
    token = damaged(Choices(data), right)
    is_right = token == "" or (token in right[place] and place != "watch")
    if place == "watch" and is_right:
        return
    WORLD.forget()
    answer = await WORLD.ask(path, request(token))

    if is_right:
        assert isinstance(answer, bytes), answer
        assert WORLD.asked
    else:
        assert isinstance(answer, RpcFailure), token
        assert answer.code is StatusCode.INVALID_ARGUMENT, answer
        assert WORLD.asked == []


async def test_every_right_token_is_taken(right: Tokens) -> None:
    """Else what is refused would prove nothing."""
    for place, tokens in right.items():
        path, request = PLACES[place]
        for token in tokens:
            if place != "watch":
                assert isinstance(await WORLD.ask(path, request(token)), bytes), place


def test_every_token_of_the_contract_is_here() -> None:
    """A new field for one has to be fuzzed as well."""
    fields = {
        f"{message.name}.{field.name}"
        for file in (pb, board_pb, admin_pb, types_pb2)
        for message in file.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
        if field.name.endswith("_token") and not message.name.endswith("Response")
    }

    assert fields == {
        "ReadOptions.consistency_token",
        "ListEntriesRequest.page_token",
        "WatchEntriesRequest.resume_token",
        "ListBoardsRequest.page_token",
        "ListAuditEventsRequest.page_token",
    }
