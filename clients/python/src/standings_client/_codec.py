"""Between the client's own values and the messages of the contract. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Unpack

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from standings.v1 import board_service_pb2 as boards_pb
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2
from standings_client._status import error_from_status
from standings_client.errors import Internal, StandingsError
from standings_client.types import (
    Board,
    BoardPage,
    EntriesAnswer,
    Entry,
    EntryAnswer,
    EntryDeleted,
    EntryPage,
    EntryView,
    Exactness,
    Metadata,
    Operator,
    Outcome,
    RangeOptions,
    RankMode,
    ReadMeta,
    ReadOptions,
    SortOrder,
    Source,
    Submission,
    SubmitResult,
)


def submit_request(submission: Submission, submission_id: str) -> pb.SubmitScoreRequest:
    """A submission under an id. Raises ValueError or TypeError where it cannot be written."""
    return pb.SubmitScoreRequest(
        board_id=submission.board_id,
        user_id=submission.user_id,
        score=submission.score,
        subscore=submission.subscore,
        submission_id=submission_id,
        operator=types_pb2.Operator.ValueType(submission.operator or Operator.UNSPECIFIED),
        metadata=_struct(submission.metadata),
        return_rank=submission.return_rank,
    )


def submit_result(response: pb.SubmitScoreResponse) -> SubmitResult:
    """What became of one submission."""
    has_previous = response.HasField("previous_entry")
    return SubmitResult(
        outcome=Outcome(response.outcome),
        first_outcome=Outcome(response.first_outcome),
        entry=entry_value(response.entry) if response.HasField("entry") else None,
        previous_entry=entry_value(response.previous_entry) if has_previous else None,
        indexed=response.indexed,
        consistency_token=response.consistency_token,
        submission_id=response.submission_id,
    )


def item_result(result: pb.BatchSubmitResult) -> SubmitResult | StandingsError:
    """What became of one item of a batch or a stream."""
    match result.WhichOneof("result"):
        case "response":
            return submit_result(result.response)
        case "error":
            return error_from_status(result.error)
        case _:
            return Internal("the server answered nothing for this submission")


def get_entry_request(
    board_id: str, user_id: int, **options: Unpack[ReadOptions]
) -> pb.GetEntryRequest:
    """Asks for one user's entry."""
    return pb.GetEntryRequest(board_id=board_id, user_id=user_id, options=read_options(options))


def batch_get_entries_request(
    board_id: str, user_ids: Iterable[int], **options: Unpack[ReadOptions]
) -> pb.BatchGetEntriesRequest:
    """Asks for the entries of some users."""
    return pb.BatchGetEntriesRequest(
        board_id=board_id, user_ids=user_ids, options=read_options(options)
    )


def list_entries_request(
    board_id: str, page_size: int, page_token: str, **options: Unpack[RangeOptions]
) -> pb.ListEntriesRequest:
    """Asks for a page of a board."""
    return pb.ListEntriesRequest(
        board_id=board_id,
        page_size=page_size,
        page_token=page_token,
        start_rank=options.get("start_rank"),
        min_score=options.get("min_score"),
        max_score=options.get("max_score"),
        options=read_options(options),
    )


def delete_entry_request(
    board_id: str, user_id: int, season_id: str, submission_id: str
) -> pb.DeleteEntryRequest:
    """Asks to take one entry off a board, under an id."""
    return pb.DeleteEntryRequest(
        board_id=board_id, user_id=user_id, season_id=season_id, submission_id=submission_id
    )


def entry_deleted(response: pb.DeleteEntryResponse) -> EntryDeleted:
    """What became of a deletion."""
    return EntryDeleted(
        outcome=Outcome(response.outcome),
        entry=entry_value(response.deleted_entry) if response.HasField("deleted_entry") else None,
        indexed=response.indexed,
        consistency_token=response.consistency_token,
        submission_id=response.submission_id,
    )


def entry_answer(response: pb.GetEntryResponse) -> EntryAnswer:
    """One user's entry."""
    return EntryAnswer(entry=entry_value(response.entry), meta=meta_value(response.meta))


def entries_answer(response: pb.BatchGetEntriesResponse) -> EntriesAnswer:
    """The entries of some users."""
    return EntriesAnswer(
        entries=entry_values(response.entries),
        missing_user_ids=tuple(response.missing_user_ids),
        meta=meta_value(response.meta),
    )


def entry_page(response: pb.ListEntriesResponse) -> EntryPage:
    """A page of a board."""
    return EntryPage(
        entries=entry_values(response.entries),
        next_page_token=response.next_page_token,
        previous_page_token=response.previous_page_token,
        meta=meta_value(response.meta),
    )


def create_board_request(board: Board) -> boards_pb.CreateBoardRequest:
    """Asks for a new board."""
    return boards_pb.CreateBoardRequest(board=_board_message(board))


def update_board_request(board: Board, fields: Iterable[str]) -> boards_pb.UpdateBoardRequest:
    """Asks for a changed board; no fields: all that may change."""
    return boards_pb.UpdateBoardRequest(
        board=_board_message(board), update_mask=FieldMask(paths=fields)
    )


def board_page(response: boards_pb.ListBoardsResponse) -> BoardPage:
    """A page of boards."""
    return BoardPage(
        boards=tuple(board_value(board) for board in response.boards),
        next_page_token=response.next_page_token,
    )


def board_value(board: types_pb2.Board) -> Board:
    """A board's definition."""
    return Board(
        board_id=board.board_id,
        title=board.title,
        sort_order=SortOrder(board.sort_order),
        subscore_sort_order=SortOrder(board.subscore_sort_order),
        operator=Operator(board.operator),
        min_score=board.min_score if board.HasField("min_score") else None,
        max_score=board.max_score if board.HasField("max_score") else None,
        client_writes=board.client_writes,
        metadata=_dict(board.metadata) if board.HasField("metadata") else None,
        current_season_id=board.current_season_id,
        create_time=time_value(board.create_time) if board.HasField("create_time") else None,
        update_time=time_value(board.update_time) if board.HasField("update_time") else None,
        etag=board.etag,
        index_only=board.index_only,
    )


def read_options(options: ReadOptions) -> types_pb2.ReadOptions:
    """How a read is to be answered."""
    staleness = options.get("max_staleness")
    max_staleness = None
    if staleness is not None:
        max_staleness = Duration()
        max_staleness.FromTimedelta(staleness)
    return types_pb2.ReadOptions(
        max_staleness=max_staleness,
        consistency_token=options.get("consistency_token", ""),
        allow_partial=options.get("allow_partial", False),
        rank_mode=types_pb2.RankMode.ValueType(options.get("rank_mode", RankMode.UNSPECIFIED)),
        view=types_pb2.EntryView.ValueType(options.get("view", EntryView.UNSPECIFIED)),
        season_id=options.get("season_id", ""),
        viewer_user_id=options.get("viewer_user_id", 0),
    )


def entry_values(entries: Iterable[types_pb2.Entry]) -> tuple[Entry, ...]:
    """Entries, in the order sent."""
    return tuple(entry_value(entry) for entry in entries)


def entry_value(entry: types_pb2.Entry) -> Entry:
    """One user's standing."""
    return Entry(
        user_id=entry.user_id,
        rank=entry.rank,
        rank_low=entry.rank_low,
        rank_high=entry.rank_high,
        score=entry.score,
        subscore=entry.subscore,
        achieve_time=time_value(entry.achieve_time) if entry.HasField("achieve_time") else None,
        submission_count=entry.submission_count,
        metadata=_dict(entry.metadata) if entry.HasField("metadata") else None,
        update_time=time_value(entry.update_time) if entry.HasField("update_time") else None,
        list_rank=entry.list_rank,
        hidden=entry.hidden,
    )


def meta_value(meta: types_pb2.ReadMeta) -> ReadMeta:
    """What an answer says about itself."""
    return ReadMeta(
        as_of=time_value(meta.as_of) if meta.HasField("as_of") else None,
        source=Source(meta.source),
        exactness=Exactness(meta.exactness),
        stale=meta.stale,
        staleness=meta.staleness.ToTimedelta(),
        epoch=meta.epoch,
        shards_answered=meta.shards_answered,
        shards_missing=tuple(meta.shards_missing),
        season_id=meta.season_id,
        entry_count=meta.entry_count,
    )


def time_value(stamp: Timestamp) -> datetime:
    """A moment, in UTC."""
    return stamp.ToDatetime(tzinfo=UTC)


def _board_message(board: Board) -> types_pb2.Board:
    # What the server sets is not sent, but for the etag, which guards the change.
    return types_pb2.Board(
        board_id=board.board_id,
        title=board.title,
        sort_order=types_pb2.SortOrder.ValueType(board.sort_order),
        subscore_sort_order=types_pb2.SortOrder.ValueType(board.subscore_sort_order),
        operator=types_pb2.Operator.ValueType(board.operator),
        min_score=board.min_score,
        max_score=board.max_score,
        client_writes=board.client_writes,
        metadata=_struct(board.metadata),
        etag=board.etag,
        index_only=board.index_only,
    )


def _struct(metadata: Metadata | None) -> Struct | None:
    if metadata is None:
        return None
    struct = Struct()
    struct.update(dict(metadata))
    return struct


def _dict(struct: Struct) -> dict[str, Any]:
    return {key: _plain(value) for key, value in struct.fields.items()}


def _plain(value: Value) -> Any:  # noqa: ANN401 - whatever JSON can hold
    match value.WhichOneof("kind"):
        case "struct_value":
            return _dict(value.struct_value)
        case "list_value":
            return _list(value.list_value)
        case None | "null_value":
            return None
        case kind:
            return getattr(value, kind)


def _list(values: ListValue) -> list[Any]:
    return [_plain(value) for value in values.values]
