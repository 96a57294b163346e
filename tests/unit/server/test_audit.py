"""What is recorded of calls, when, and what is told of it over the wire."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from core.audit_lines import Action, action_content
from core.errors import AuditUnavailable, BoardNotFound, EtagMismatch, LedgerUnavailable
from server.audit.describing import Known
from server.audit.link import Audit
from server.audit.table import AUDIT
from server.rpc.call import CallContext
from server.rpc.chain import compose
from server.rpc.methods import Method
from standings.v1 import admin_service_pb2 as admin_pb
from standings.v1 import board_service_pb2 as board_pb
from standings.v1 import moderation_service_pb2 as mod_pb
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2
from tests.fakes.audit import MemoryAudit
from tests.unit.server.fakes import MINTED_ID, Serving, details_of, submission

REASON = "a good reason"
BOARD = types_pb2.Board(board_id="arena", title="New")
REQUESTS: Mapping[str, tuple[Message, str]] = {
    "RankingService/DeleteEntry": (
        pb.DeleteEntryRequest(board_id="arena", user_id=42, submission_id=MINTED_ID),
        "board/arena/user/42",
    ),
    "BoardService/CreateBoard": (board_pb.CreateBoardRequest(board=BOARD), "board/arena"),
    "BoardService/UpdateBoard": (
        board_pb.UpdateBoardRequest(board=BOARD, update_mask={"paths": ["title"]}),
        "board/arena",
    ),
    "BoardService/DeleteBoard": (board_pb.DeleteBoardRequest(board_id="arena"), "board/arena"),
    "ModerationService/HideUser": (
        mod_pb.HideUserRequest(user_id=42, board_id="arena", reason=REASON),
        "board/arena/user/42",
    ),
    "ModerationService/RestoreUser": (mod_pb.RestoreUserRequest(user_id=42), "user/42"),
    "ModerationService/DeleteUser": (mod_pb.DeleteUserRequest(user_id=42), "user/42"),
    "AdminService/SetBreaker": (
        admin_pb.SetBreakerRequest(name="redis/*", mode=2, reason=REASON),  # type: ignore[arg-type]
        "breaker/redis/*",
    ),
    "AdminService/VerifyShards": (admin_pb.VerifyShardsRequest(), "index/*"),
    "AdminService/RebuildShards": (
        admin_pb.RebuildShardsRequest(board_id="arena", shards=[3, 1, 3]),
        "index/arena",
    ),
    "AdminService/CancelOperation": (
        admin_pb.CancelOperationRequest(operation_id="0" * 32),
        "operation/" + "0" * 32,
    ),
    "AdminService/InjectFault": (
        admin_pb.InjectFaultRequest(target="*", kind=2, reason=REASON),  # type: ignore[arg-type]
        "fault/*",
    ),
    "AdminService/ClearFaults": (admin_pb.ClearFaultsRequest(), "fault/*"),
}
EFFECTS = {
    "DeleteEntry": "delete_entry",
    "CreateBoard": "create",
    "UpdateBoard": "update",
    "DeleteBoard": "delete",
    "HideUser": "hide",
    "RestoreUser": "restore",
    "DeleteUser": "delete_user",
    "VerifyShards": "verify_shards",
    "RebuildShards": "rebuild_shards",
    "CancelOperation": "cancel_operation",
    "SetBreaker": "publish",
}
ALL = pytest.mark.parametrize("name", REQUESTS)


async def called(serving: Serving, name: str, request: Message | None = None) -> bytes:
    """A method by its name, on the listener that has it."""
    channel = serving.admin_channel if name.startswith("Admin") else serving.channel
    message = REQUESTS[name][0] if request is None else request
    answer: bytes = await channel.unary_unary(f"/standings.v1.{name}")(message.SerializeToString())
    return answer


def changed(serving: Serving, name: str) -> bool:
    """Whether a method did what it is for."""
    effect = EFFECTS.get(name.partition("/")[2])
    if effect is not None:
        return effect in serving.fakes.calls
    return bool(serving.machine.faults()) is (name == "AdminService/InjectFault")


def test_every_method_says_whether_it_is_audited() -> None:
    """Those of the whole contract, and no others; a change to the list is a decision."""
    files = (pb, board_pb, mod_pb, admin_pb)
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    methods = {
        f"/{service.full_name}/{method.name}" for service in services for method in service.methods
    }
    audited = {path.removeprefix("/standings.v1.") for path, row in AUDIT.items() if row}

    assert methods == {path for path in AUDIT if path.startswith("/standings.")}
    assert audited == set(REQUESTS)


def test_a_method_without_a_row_stops_the_start() -> None:
    """Whoever adds one has to say whether it is audited; a stream cannot be."""

    def method(path: str, *, streaming: bool) -> Method:
        return Method(path, Message, Message, streaming, streaming, print)

    link = Audit(MemoryAudit(), None)  # type: ignore[arg-type]
    link.after = frozenset()  # type: ignore[misc]
    for path, streaming, words in (
        ("/standings.v1.AdminService/DropEverything", False, "does not say"),
        ("/standings.v1.AdminService/DropEverything", True, "does not say"),
        ("/standings.v1.AdminService/SetBreaker", True, "is a stream"),
    ):
        with pytest.raises(ValueError, match=words):
            compose({path: method(path, streaming=streaming)}, [link])


@ALL
async def test_a_line_comes_before_the_effect(serving: Serving, name: str) -> None:
    """It tells who, what and in which call; afterwards another one tells what became of it."""
    audit, at_begin = serving.fakes.audit, []
    begin = audit.begin

    async def look(action: Action) -> int:
        at_begin.append(changed(serving, name))
        return await begin(action)

    audit.begin = look  # type: ignore[method-assign]
    if name == "AdminService/ClearFaults":
        await called(serving, "AdminService/InjectFault")
        at_begin.clear()
    await called(serving, name)
    content = audit.written[-2].content

    assert (at_begin, changed(serving, name)) == ([False], True)
    assert audit.told[-1] == (name.partition("/")[2], REQUESTS[name][1], "OK")
    assert content["method"] == f"standings.v1.{name}"
    assert content["actor"] == content["peer"]
    assert content["peer"].startswith("ipv4:127.0.0.1:")
    assert content["reason"] == (REASON if "reason" in str(REQUESTS[name][0]) else "")
    assert re.fullmatch("[0-9a-f]{16}", content["request_id"])


@ALL
async def test_what_cannot_be_recorded_is_not_done(serving: Serving, name: str) -> None:
    """UNAVAILABLE, and that call alone: games are served, and what reads is answered."""
    serving.fakes.audit.error = AuditUnavailable()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await called(serving, name)
    details = details_of(caught.value)

    assert caught.value.code() is StatusCode.UNAVAILABLE
    assert details["ErrorInfo"].reason == "AUDIT_UNAVAILABLE"
    assert not changed(serving, name) or name == "AdminService/ClearFaults"
    assert (await serving.ranking.SubmitScore(submission())).submission_id
    assert (await serving.admin.ListBreakers(admin_pb.ListBreakersRequest())).breakers


@pytest.mark.parametrize(
    ("error", "status"),
    [(BoardNotFound(), "NOT_FOUND"), (EtagMismatch(), "ABORTED"), (KeyError(), "INTERNAL")],
)
async def test_what_fails_is_recorded_as_that(
    serving: Serving, error: Exception, status: str
) -> None:
    """By the status that its caller saw."""
    serving.fakes.error = error
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await called(serving, "ModerationService/HideUser")

    assert caught.value.code().name == status
    assert serving.fakes.audit.told == [("HideUser", "board/arena/user/42", status)]


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("ModerationService/HideUser", mod_pb.HideUserRequest(user_id=0)),
        ("ModerationService/DeleteUser", mod_pb.DeleteUserRequest(user_id=1, reason="a\nb")),
        ("AdminService/SetBreaker", admin_pb.SetBreakerRequest(name="*")),
        ("AdminService/ClearFaults", admin_pb.ClearFaultsRequest(target="no\nsuch")),
        ("BoardService/DeleteBoard", board_pb.DeleteBoardRequest(board_id="../x")),
        ("RankingService/DeleteEntry", pb.DeleteEntryRequest(board_id="a", user_id=-1)),
    ],
)
async def test_what_is_malformed_is_not_recorded(
    serving: Serving, name: str, request_: Message
) -> None:
    """It is refused for its form, and could not do anything."""
    with pytest.raises(grpc.aio.AioRpcError):
        await called(serving, name, request_)

    assert serving.fakes.audit.written == []
    assert serving.fakes.calls == []


async def test_from_what_to_what(serving: Serving) -> None:
    """As far as it is known beforehand; of metadata only whether it changed."""
    board = types_pb2.Board(board_id="arena", title="New", min_score=2**62, metadata={"a": 1})
    mask = {"paths": ["title", "min_score", "metadata"]}
    await serving.boards.UpdateBoard(board_pb.UpdateBoardRequest(board=board, update_mask=mask))
    await serving.boards.DeleteBoard(board_pb.DeleteBoardRequest(board_id="arena"))
    await called(serving, "AdminService/InjectFault")
    await called(serving, "AdminService/ClearFaults")
    update, delete, inject, clear = (line.content for line in serving.fakes.audit.written[::2])

    assert {**update["old"], "metadata": ""} == {"title": "Arena", "min_score": 0, "metadata": ""}
    assert (update["new"]["title"], update["new"]["min_score"]) == ("New", 2**62)
    assert update["old"]["metadata"] != update["new"]["metadata"]
    assert re.fullmatch("sha256:[0-9a-f]{64}", update["new"]["metadata"])
    assert (delete["old"]["operator"], delete["new"]) == ("BEST", {})
    assert (inject["old"], inject["new"]["kind"]) == ({}, "ERROR")
    assert set(clear["old"].values()) == {"ERROR"}


async def test_a_caller_that_goes_away_while_it_is_recorded() -> None:
    """Nothing is done, and that is recorded once the line is there."""
    audit, reached, entered = MemoryAudit(), asyncio.Event(), asyncio.Event()
    ended = asyncio.Event()
    begin, end, done = audit.begin, audit.end, []

    async def slow(action: Action) -> int:
        entered.set()
        await reached.wait()
        return await begin(action)

    async def end_seen(*arguments: Any) -> None:
        await end(*arguments)
        ended.set()

    async def handler(_message: Any, _call: CallContext) -> None:
        done.append(True)

    audit.begin, audit.end = slow, end_seen  # type: ignore[method-assign]
    path = "/standings.v1.ModerationService/DeleteUser"
    method = Method(path, Message, Message, False, False, handler)
    link = Audit(audit, None)  # type: ignore[arg-type]
    request = mod_pb.DeleteUserRequest(user_id=1)
    calling = asyncio.ensure_future(
        link.unary(method, handler)(request, CallContext(None, {}, lambda: "peer"))
    )
    await entered.wait()
    calling.cancel()
    await asyncio.wait([calling])
    reached.set()
    await asyncio.wait_for(ended.wait(), 5)

    assert (calling.cancelled(), done) == (True, [])
    assert audit.told == [("DeleteUser", "user/1", "CANCELLED")]
    assert audit.written[-1].content["result"] == {"done": False}


async def test_a_caller_that_goes_away_while_it_is_done(serving: Serving) -> None:
    """It may have been done: CANCELLED, and no more is known."""
    audit, gate = MemoryAudit(), asyncio.Event()
    entered = asyncio.Event()

    async def handler(_message: Any, _call: CallContext) -> None:
        entered.set()
        await gate.wait()

    path = "/standings.v1.ModerationService/DeleteUser"
    method = Method(path, Message, Message, False, False, handler)
    known = Known(None, None, None)  # type: ignore[arg-type]
    calling = asyncio.ensure_future(
        Audit(audit, known).unary(method, handler)(
            mod_pb.DeleteUserRequest(user_id=1), CallContext(None, {}, lambda: "peer")
        )
    )
    await entered.wait()
    calling.cancel()
    await asyncio.wait([calling])

    assert calling.cancelled()
    assert audit.told == [("DeleteUser", "user/1", "CANCELLED")]
    assert audit.written[-1].content["result"] == {}


async def test_an_outcome_that_cannot_be_recorded_is_no_failure(serving: Serving) -> None:
    """It is done, and its caller is told so; the audit does not know."""
    audit = serving.fakes.audit

    async def full(*_: object) -> None:
        raise AuditUnavailable

    audit.end = full  # type: ignore[method-assign]
    await called(serving, "ModerationService/HideUser")

    assert audit.told == [("HideUser", "board/arena/user/42", "")]


async def test_events_over_the_wire(serving: Serving) -> None:
    """All that a line holds; numbers that a double cannot hold as digits; pages of a question."""
    audit = serving.fakes.audit
    for name in ("ModerationService/HideUser", "AdminService/SetBreaker"):
        await called(serving, name)
    audit._append(action_content(Action("s/M", "t", new={"high": 2**60, "flag": True})))
    first = await serving.admin.ListAuditEvents(admin_pb.ListAuditEventsRequest(page_size=1))
    rest = await serving.admin.ListAuditEvents(
        admin_pb.ListAuditEventsRequest(page_token=first.next_page_token)
    )
    ((newest,), (breaker, hidden)) = first.events, rest.events

    assert (first.source, rest.next_page_token) == (admin_pb.AUDIT_SOURCE_DATABASE, "")
    assert (newest.status, newest.HasField("end_time")) == ("", False)
    assert MessageToDict(newest.new_values) == {"high": str(2**60), "flag": True}
    assert (hidden.status, hidden.target) == ("OK", "board/arena/user/42")
    assert (hidden.chain, hidden.sequence, hidden.hash) == (
        *(audit.chain, 1, audit.written[0].hash),
    )
    assert MessageToDict(hidden.result) == {"changed": True}
    assert hidden.time.ToMilliseconds() == 1_700_000_000_000
    assert hidden.end_time.ToMilliseconds() == 1_700_000_000_001
    assert MessageToDict(breaker.new_values) == {
        "mode": "FORCED_OPEN",
        "ttl_s": 900,
        "set_by": breaker.actor,
    }


async def test_without_the_database_the_file_answers(serving: Serving) -> None:
    """And says so."""
    await called(serving, "ModerationService/HideUser")
    page = serving.fakes.audit.page

    async def away_once(*arguments: Any, **options: Any) -> Any:
        serving.fakes.audit.page = page  # type: ignore[method-assign]
        raise LedgerUnavailable

    serving.fakes.audit.page = away_once  # type: ignore[method-assign]
    answer = await serving.admin.ListAuditEvents(admin_pb.ListAuditEventsRequest())

    assert (answer.source, len(answer.events)) == (admin_pb.AUDIT_SOURCE_FILE, 1)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"page_size": 1001}, "page_size"),
        ({"page_size": -1}, "page_size"),
        ({"page_token": "eA"}, "page_token"),
        ({"actor": "a" * 257}, "actor"),
        ({"method": "a\n"}, "method"),
        ({"target": "\u202e"}, "target"),
        ({"start_time": Timestamp(seconds=-1)}, "start_time"),
        ({"end_time": Timestamp(seconds=253_402_300_800)}, "end_time"),
        ({"end_time": Timestamp(nanos=-1)}, "end_time"),
    ],
)
async def test_what_cannot_be_asked(serving: Serving, fields: Any, field: str) -> None:
    """The field is named."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.admin.ListAuditEvents(admin_pb.ListAuditEventsRequest(**fields))
    (violation,) = details_of(caught.value)["BadRequest"].field_violations

    assert (caught.value.code(), violation.field) == (StatusCode.INVALID_ARGUMENT, field)


async def test_a_token_belongs_to_its_question(serving: Serving) -> None:
    """Asked with another filter it is refused."""
    for _ in range(2):
        await called(serving, "ModerationService/HideUser")
    first = await serving.admin.ListAuditEvents(admin_pb.ListAuditEventsRequest(page_size=1))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.admin.ListAuditEvents(
            admin_pb.ListAuditEventsRequest(page_token=first.next_page_token, actor="x")
        )

    assert caught.value.code() is StatusCode.INVALID_ARGUMENT


async def test_of_a_user_the_number_alone_is_told(serving: Serving) -> None:
    """What stays when the user is deleted: not which submission, nor how much there was of it."""
    for name in ("RankingService/DeleteEntry", "ModerationService/DeleteUser"):
        await called(serving, name)
    deletion, _, erasure, erased = (line.content for line in serving.fakes.audit.written)

    assert deletion["new"] == {"season_id": ""}
    assert (deletion["old"], erasure["old"]) == ({}, {})
    assert erasure["new"] == {"erasure": "ERASE"}
    assert erased["result"] == {}
