"""Use cases that answer from nothing, and what a test needs to talk to a server of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from core.batch_get_entries import EntryList
from core.clock import SystemClock
from core.delete_entry import EntryDeleted
from core.errors import StandingsError
from core.estimate_rank import RankEstimate, RankTarget
from core.get_percentile import Percentile
from core.list_audit_events import ListAuditEvents
from core.list_entries import EntryPage
from core.list_entries_around import EntryWindow
from core.moderate_users import UserDeleted, UserHidden, UserRestored
from core.operations import Operation, OperationKind, OperationShard, OperationState
from core.submit_scores import SubmitResults
from core.tokens import TokenSigner
from core.types import (
    Board,
    BoardSpec,
    Erasure,
    Exactness,
    Operator,
    Outcome,
    RankedEntry,
    ReadMeta,
    Recorded,
    ScorePoint,
    Season,
    ShardReport,
    ShardState,
    SortOrder,
    Source,
    Standing,
    Submission,
    SubmitResult,
)
from core.watch_entries import WatchEvent, WatchMessage
from resilience.machine import MachineFile
from server.app import Server
from server.health import Health
from server.levers.levers import levers_of
from server.use_cases import UseCases
from standings.v1 import admin_service_pb2_grpc as admin_grpc
from standings.v1 import board_service_pb2_grpc as board_grpc
from standings.v1 import moderation_service_pb2_grpc as moderation_grpc
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as ranking_grpc
from tests.fakes.audit import MemoryAudit

SIGNER = TokenSigner([b"secret"])
MINTED_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
SOME_ID = "01890A5D-AC96-774B-BCCE-B302099A8058"
SEASON = Season(number=7, season_id="s1")
STANDING = Standing(user_id=42, score=10, subscore=-3, achieve_time_ms=1_700_000_000_123)
OPERATION = Operation(
    operation_id="0" * 32,
    kind=OperationKind.VERIFY,
    create_time_ms=1_700_000_000_123,
    state=OperationState.FAILED,
    end_time_ms=1_700_000_001_123,
    done_count=3,
    total_count=16,
    entry_count=99,
    shards=(OperationShard("arena", "s1", 5, 7, 6, 1, (42,), rebuilt=True),),
    error_reason="INDEX_UNAVAILABLE",
    error_text="part of the index cannot answer now",
)
META = ReadMeta(
    as_of_ms=1_700_000_000_456,
    source=Source.INDEX,
    exactness=Exactness.EXACT,
    season_id="s1",
    epoch=3,
    entry_count=99,
    staleness_ms=1_250,
    shards_missing=(4,),
)
BREAKERS = ("postgres", "postgres/write", "redis", "redis/shard-00", "redis/shard-01")
TARGET = RankTarget(
    rank=4, score=12, subscore=None, score_needed=13, score_gap=2**63 + 5, reached=False
)
SPEC = BoardSpec(
    board_id="arena",
    title="Arena",
    sort_order=SortOrder.DESCENDING,
    subscore_sort_order=SortOrder.ASCENDING,
    operator=Operator.BEST,
    min_score=0,
    max_score=None,
    client_writes=True,
    metadata='{"mode":"duel"}',
)
BOARD = Board(
    number=5, spec=SPEC, season=SEASON, version=2, create_time_ms=1000, update_time_ms=2500
)


def recorded(submission: Submission) -> Recorded:
    """What a ledger would store for a first submission."""
    standing = Standing(
        user_id=submission.user_id,
        score=submission.score,
        subscore=submission.subscore,
        achieve_time_ms=1_700_000_000_000,
    )
    return Recorded(
        submission_id=submission.submission_id,
        outcome=Outcome.APPLIED,
        first_outcome=Outcome.APPLIED,
        entry=standing,
        previous=None,
        season=SEASON,
        xid=1,
        touches_index=True,
    )


@dataclass
class Fakes:
    """All use cases. `calls` are the names of those that were called, `error` what they raise,
    `refusal` what every submission gets; one of a user in `gates` waits for that event.
    """

    calls: list[str] = field(default_factory=list)
    arguments: list[Any] = field(default_factory=list)
    error: BaseException | None = None
    refusal: StandingsError | None = None
    gates: dict[int, asyncio.Event] = field(default_factory=dict)
    finished: list[int] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    faults_enabled: bool = True
    audit: MemoryAudit = field(default_factory=MemoryAudit)

    def use_cases(self, machine: MachineFile) -> UseCases:
        """What a server is built from. The levers are real."""
        return UseCases(
            submit_scores=self,
            get_entry=self.get_entry,
            batch_get_entries=self.batch_get_entries,
            list_entries=self.list_entries,
            list_entries_around=self.list_entries_around,
            estimate_rank=self.estimate_rank,
            get_percentile=self.get_percentile,
            watch_entries=self.watch_entries,
            delete_entry=self.delete_entry,
            moderate_users=FakeModeration(self),
            manage_boards=self,
            list_shards=self.list_shards,
            index_operations=FakeIndexOperations(self),
            levers=levers_of(
                machine,
                SystemClock(),
                faults_enabled=self.faults_enabled,
                publish=lambda: self.calls.append("publish"),
            ),
            audit=self.audit,
            list_audit_events=ListAuditEvents(self.audit, self.audit, SIGNER),
            new_submission_id=lambda: MINTED_ID,
        )

    def reset(self) -> None:
        """Forgets all calls."""
        self.calls.clear()
        self.arguments.clear()
        self.entered.clear()

    def called(self, name: str, *arguments: Any) -> None:
        """Takes note of a call, and raises what is to be raised."""
        self.calls.append(name)
        self.arguments.append(arguments)
        self.entered.set()
        if self.error is not None:
            raise self.error

    async def __call__(self, submissions: Any) -> SubmitResults:
        """Records."""
        return await (await self.enqueue(submissions, source=object()))

    async def enqueue(self, submissions: Any, *, source: Any) -> Any:
        """Takes in."""
        self.called("submit_scores", list(submissions))
        return self._results(submissions)

    async def _results(self, submissions: Any) -> SubmitResults:
        results: list[SubmitResult | StandingsError] = []
        for item in submissions:
            if self.refusal is not None or isinstance(item, StandingsError):
                results.append(self.refusal or item)
                continue
            if item.user_id in self.gates:
                await self.gates[item.user_id].wait()
            self.finished.append(item.user_id)
            rank = 1 if item.return_rank else None
            results.append(SubmitResult(recorded(item), indexed=True, rank=rank))
        return SubmitResults(results=results, consistency_token="token")

    async def get_entry(self, board_id: str, user_id: int, options: Any) -> Any:
        """One entry."""
        self.called("get_entry", board_id, user_id, options)
        return RankedEntry(STANDING, rank=17), META

    async def batch_get_entries(self, board_id: str, user_ids: Any, options: Any) -> EntryList:
        """Some entries."""
        self.called("batch_get_entries", board_id, user_ids, options)
        return EntryList([RankedEntry(STANDING, rank=17, list_rank=1)], [8, 9], META)

    async def list_entries(self, board_id: str, **arguments: Any) -> EntryPage:
        """A page."""
        self.called("list_entries", board_id, arguments)
        return EntryPage([RankedEntry(STANDING, rank=1)], "next", "previous", META)

    async def list_entries_around(self, board_id: str, center: Any, **arguments: Any) -> Any:
        """A window; the entry in it is its viewer's own."""
        self.called("list_entries_around", board_id, center, arguments)
        return EntryWindow([RankedEntry(STANDING, rank=17, hidden=True)], META)

    async def estimate_rank(self, board_id: str, point: Any, **arguments: Any) -> Any:
        """An estimate."""
        self.called("estimate_rank", board_id, point, arguments)
        return RankEstimate(rank=5, next=TARGET, for_rank=None, for_percent=TARGET, meta=META)

    async def get_percentile(self, board_id: str, point: Any, options: Any) -> Any:
        """A percentile."""
        self.called("get_percentile", board_id, point, options)
        return Percentile(percent=12.5, rank=3, point=ScorePoint(7, -8), meta=META)

    async def watch_entries(self, board_id: str, target: Any, **arguments: Any) -> Any:
        """A snapshot and nothing more."""
        self.called("watch_entries", board_id, target, arguments)
        yield WatchMessage(
            WatchEvent.SNAPSHOT, (RankedEntry(STANDING, rank=1),), (), META, "resume"
        )

    async def delete_entry(self, board_id: str, user_id: int, **arguments: Any) -> Any:
        """Deletes."""
        self.called("delete_entry", board_id, user_id, arguments)
        return EntryDeleted(
            outcome=Outcome.APPLIED,
            deleted=STANDING,
            indexed=True,
            consistency_token="token",
            submission_id=arguments["submission_id"],
        )

    async def create(self, spec: BoardSpec) -> Board:
        """Makes."""
        self.called("create", spec)
        return BOARD

    async def get(self, board_id: str) -> Board:
        """Reads."""
        self.called("get", board_id)
        return BOARD

    async def list(self, *, page_size: int, page_token: str, prefix: str = "") -> Any:
        """Lists."""
        self.called("list", page_size, page_token)
        return [BOARD], "more"

    async def update(self, board_id: str, changes: Any, *, etag: str) -> Board:
        """Changes."""
        self.called("update", board_id, changes, etag)
        return BOARD

    async def delete(self, board_id: str, *, etag: str) -> None:
        """Ends."""
        self.called("delete", board_id, etag)

    async def list_shards(self) -> Any:
        """Two shards."""
        self.called("list_shards")
        ready = ShardReport(0, 1159, "10.0.0.1:6379", 12, 345, 1500, ShardState.READY)
        return [ready, ShardReport(1, 2165, "", 0, 0, None, ShardState.DOWN)]


@dataclass
class FakeModeration:
    """Moderation that does nothing."""

    fakes: Fakes

    async def hide(self, user_id: int, board_id: str) -> UserHidden:
        """Hides."""
        self.fakes.called("hide", user_id, board_id)
        return UserHidden(changed=True, entry_count=2, indexed=True, consistency_token="token")

    async def restore(self, user_id: int, board_id: str) -> UserRestored:
        """Restores."""
        self.fakes.called("restore", user_id, board_id)
        return UserRestored(
            changed=True, entry_count=2, still_hidden=True, indexed=True, consistency_token="token"
        )

    async def delete(self, user_id: int, erasure: Erasure) -> UserDeleted:
        """Begins a deletion."""
        self.fakes.called("delete_user", user_id, erasure)
        return UserDeleted(
            erasure=erasure,
            deleted_entry_count=3,
            erased_submission_count=4,
            create_time_ms=1_700_000_000_000,
            complete_time_ms=None,
            indexed=False,
            consistency_token="token",
        )


@dataclass
class FakeIndexOperations:
    """Operations that never end. What is asked of one by name is in `operations`, too."""

    fakes: Fakes

    @property
    def operations(self) -> FakeIndexOperations:
        """Itself."""
        return self

    async def verify(self, board_id: str, shards: Any, *, repair: bool) -> Operation:
        """Begins one."""
        self.fakes.called("verify_shards", board_id, list(shards), repair)
        return OPERATION

    async def rebuild(self, board_id: str, shards: Any) -> Operation:
        """Begins one."""
        self.fakes.called("rebuild_shards", board_id, list(shards))
        return OPERATION

    async def get(self, operation_id: str) -> Operation:
        """That one."""
        self.fakes.called("get_operation", operation_id)
        return OPERATION

    async def all(self) -> list[Operation]:
        """That one."""
        self.fakes.called("list_operations")
        return [OPERATION]

    async def cancel(self, operation_id: str) -> Operation:
        """That one."""
        self.fakes.called("cancel_operation", operation_id)
        return OPERATION


@dataclass
class Serving:
    """A server, its fakes, and a channel to each listener."""

    server: Server
    health: Health
    fakes: Fakes
    channel: grpc.aio.Channel
    admin_channel: grpc.aio.Channel
    machine: MachineFile

    @property
    def ranking(self) -> ranking_grpc.RankingServiceStub:
        """The public listener's RankingService."""
        return ranking_grpc.RankingServiceStub(self.channel)

    @property
    def boards(self) -> board_grpc.BoardServiceStub:
        """The public listener's BoardService."""
        return board_grpc.BoardServiceStub(self.channel)

    @property
    def moderation(self) -> moderation_grpc.ModerationServiceStub:
        """The public listener's ModerationService."""
        return moderation_grpc.ModerationServiceStub(self.channel)

    @property
    def admin(self) -> admin_grpc.AdminServiceStub:
        """The admin listener's AdminService."""
        return admin_grpc.AdminServiceStub(self.admin_channel)


def submission(**fields: Any) -> pb.SubmitScoreRequest:
    """A good submission, with some fields changed."""
    return pb.SubmitScoreRequest(**{"board_id": "arena", "user_id": 42, "score": 10, **fields})


def details_of(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The details beside a failed call's status, by type name, and its trailers."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])

    assert (error.code().value[0], error.details()) == (status.code, status.message)
    return {"trailers": trailers, **unpacked(status)}


def unpacked(status: status_pb2.Status) -> dict[str, Any]:
    """The details of a google.rpc.Status by type name."""
    found = {}
    for packed in status.details:
        message = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])()
        assert packed.Unpack(message)
        found[type(message).__name__] = message
    return found
