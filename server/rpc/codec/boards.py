"""Definitions of boards in and out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from core.errors import InvalidInput
from core.types import Board, BoardSpec, Operator, SortOrder
from server.rpc.codec import fields
from server.rpc.codec.metadata import BOARD_BYTES_MAX, decode_metadata, encode_metadata
from standings.v1 import board_service_pb2 as pb
from standings.v1 import types_pb2 as types_pb

PAGE_SIZE_DEFAULT: Final = 100
TITLE_CHARS_MAX: Final = 256

_SORT_ORDERS: Final = fields.words_of(SortOrder, default=SortOrder.DESCENDING)
_OPERATORS: Final = fields.words_of(Operator, default=Operator.BEST)
_IMMUTABLE: Final = frozenset({"board_id", "sort_order", "subscore_sort_order", "operator"})


def decode_new_board(request: pb.CreateBoardRequest) -> BoardSpec:
    """What a caller decides about a new board; fields set by the server are ignored."""
    if not request.HasField("board"):
        raise InvalidInput("board", "is required")
    board = request.board
    spec = BoardSpec(
        board_id=fields.board_id(board.board_id, "board.board_id"),
        title=_title(board),
        sort_order=fields.known(_SORT_ORDERS, board.sort_order, "board.sort_order"),
        subscore_sort_order=fields.known(
            _SORT_ORDERS, board.subscore_sort_order, "board.subscore_sort_order"
        ),
        operator=fields.known(_OPERATORS, board.operator, "board.operator"),
        min_score=_min_score(board),
        max_score=_max_score(board),
        client_writes=board.client_writes,
        metadata=_metadata(board),
        index_only=board.index_only,
    )
    _check_bounds(spec.min_score, spec.max_score)
    return spec


def decode_changes(request: pb.UpdateBoardRequest) -> Mapping[str, object]:
    """The new values by the name of their BoardSpec field, never empty; an unset bound is None.

    Only bounds that change together are held against each other here.
    """
    board = request.board
    changes = {path: _MUTABLE[path](board) for path in _mask(request)}
    if "min_score" in changes and "max_score" in changes:
        _check_bounds(_min_score(board), _max_score(board))
    return changes


def decode_board_id(request: pb.UpdateBoardRequest) -> str:
    """Which board a change is for."""
    return fields.board_id(request.board.board_id, "board.board_id")


def decode_etag(etag: str, field: str) -> str:
    """The etag that a change is to meet; empty: any."""
    return fields.token(etag, field, chars_max=fields.ETAG_CHARS_MAX)


def encode_board(board: Board) -> types_pb.Board:
    """A stored board."""
    spec = board.spec
    return types_pb.Board(
        board_id=spec.board_id,
        title=spec.title,
        sort_order=types_pb.SortOrder.ValueType(spec.sort_order),
        subscore_sort_order=types_pb.SortOrder.ValueType(spec.subscore_sort_order),
        operator=types_pb.Operator.ValueType(spec.operator),
        min_score=spec.min_score,
        max_score=spec.max_score,
        client_writes=spec.client_writes,
        current_season_id=board.season.season_id,
        metadata=None if spec.metadata is None else encode_metadata(spec.metadata),
        create_time=fields.timestamp(board.create_time_ms),
        update_time=fields.timestamp(board.update_time_ms),
        etag=board.etag,
        index_only=spec.index_only,
    )


def _mask(request: pb.UpdateBoardRequest) -> frozenset[str]:
    paths = frozenset(request.update_mask.paths)
    if paths & _IMMUTABLE:
        raise InvalidInput("update_mask", f"{min(paths & _IMMUTABLE)} is immutable")
    if not paths <= _MUTABLE.keys():
        raise InvalidInput("update_mask", f"may name {', '.join(_MUTABLE)} only")
    return paths or frozenset(_MUTABLE)


def _title(board: types_pb.Board) -> str:
    if len(board.title) > TITLE_CHARS_MAX or not fields.is_plain_text(board.title):
        raise InvalidInput(
            "board.title",
            f"must be at most {TITLE_CHARS_MAX} characters without control characters",
        )
    return board.title


def _min_score(board: types_pb.Board) -> int | None:
    return board.min_score if board.HasField("min_score") else None


def _max_score(board: types_pb.Board) -> int | None:
    return board.max_score if board.HasField("max_score") else None


def _client_writes(board: types_pb.Board) -> bool:
    return board.client_writes


def _metadata(board: types_pb.Board) -> str | None:
    if not board.HasField("metadata"):
        return None
    return decode_metadata(board.metadata, "board.metadata", bytes_max=BOARD_BYTES_MAX)


def _index_only(board: types_pb.Board) -> bool:
    return board.index_only


def _check_bounds(min_score: int | None, max_score: int | None) -> None:
    if min_score is not None and max_score is not None and min_score > max_score:
        raise InvalidInput("board.min_score", "must not be above max_score")


_MUTABLE: Final[Mapping[str, Callable[[types_pb.Board], object]]] = {
    "title": _title,
    "min_score": _min_score,
    "max_score": _max_score,
    "client_writes": _client_writes,
    "metadata": _metadata,
    "index_only": _index_only,
}
