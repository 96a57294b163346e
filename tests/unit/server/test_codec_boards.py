"""What a board may be, and how it may change."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from core.errors import InvalidInput
from core.types import BoardSpec, Operator, SortOrder
from server.rpc.codec.boards import (
    decode_board_id,
    decode_changes,
    decode_etag,
    decode_new_board,
    encode_board,
)
from standings.v1 import board_service_pb2 as pb
from standings.v1 import types_pb2
from tests.unit.server.fakes import BOARD


def new_board(**fields: Any) -> BoardSpec:
    """A new board with some fields set, as the core gets it."""
    board = types_pb2.Board(**{"board_id": "arena", **fields})
    return decode_new_board(pb.CreateBoardRequest(board=board))


def changes(paths: list[str], **fields: Any) -> dict[str, object]:
    """Changes of a board, as the core gets them."""
    board = types_pb2.Board(**{"board_id": "arena", **fields})
    request = pb.UpdateBoardRequest(board=board, update_mask=FieldMask(paths=paths))
    return dict(decode_changes(request))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"board_id": "a}{b"}, "board.board_id"),
        ({"board_id": "{s0}"}, "board.board_id"),
        ({"title": "x" * 257}, "board.title"),
        ({"title": "a\nb"}, "board.title"),
        ({"title": "a\x00"}, "board.title"),
        ({"title": "a\x9bb"}, "board.title"),
        ({"title": "a\u202eb"}, "board.title"),
        ({"sort_order": 3}, "board.sort_order"),
        ({"subscore_sort_order": 999}, "board.subscore_sort_order"),
        ({"operator": 9}, "board.operator"),
        ({"min_score": 2, "max_score": 1}, "board.min_score"),
        ({"metadata": {"a": "x" * 4096}}, "board.metadata"),
        ({"metadata": {"a": "\0"}}, "board.metadata"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_boards(fields: dict[str, Any], field: str) -> None:
    """A field that the contract does not allow is named."""
    with pytest.raises(InvalidInput) as caught:
        new_board(**fields)

    assert caught.value.field == field


def test_a_board_is_required() -> None:
    """An empty request names what is missing."""
    with pytest.raises(InvalidInput) as caught:
        decode_new_board(pb.CreateBoardRequest())

    assert caught.value.field == "board"


def test_a_new_boards_defaults() -> None:
    """What is not said becomes descending, best, unbounded."""
    down = SortOrder.DESCENDING
    wanted = BoardSpec("arena", "", down, down, Operator.BEST, None, None, False, None)

    assert new_board() == wanted


def test_a_new_board() -> None:
    """All that a caller decides arrives; what the server sets is ignored."""
    title = "🏆 " + "x" * 254
    spec = new_board(
        title=title,
        sort_order=2,
        subscore_sort_order=2,
        operator=4,
        min_score=-5,
        max_score=-5,
        client_writes=True,
        metadata={"a": 1},
        etag="ignored\0",
        index_only=True,
    )
    up = SortOrder.ASCENDING

    assert spec == BoardSpec(
        "arena", title, up, up, Operator.DECREMENT, -5, -5, True, '{"a":1}', True
    )


@pytest.mark.parametrize("path", ["sort_order", "subscore_sort_order", "operator", "board_id"])
def test_immutable_fields(path: str) -> None:
    """What decides about the order of entries never changes."""
    with pytest.raises(InvalidInput, match=f"{path} is immutable") as caught:
        changes(["title", path])

    assert caught.value.field == "update_mask"


@pytest.mark.parametrize("path", ["nonsense", "*", "", "etag", "metadata.a", "Title"])
def test_unknown_paths(path: str) -> None:
    """A mask names mutable fields only."""
    with pytest.raises(InvalidInput, match="may name") as caught:
        changes([path])

    assert caught.value.field == "update_mask"


def test_an_empty_mask_means_all() -> None:
    """Without a mask every mutable field takes its new value, unset ones included."""
    assert changes([], title="New", min_score=1) == {
        "title": "New",
        "min_score": 1,
        "max_score": None,
        "client_writes": False,
        "metadata": None,
        "index_only": False,
    }


def test_a_mask_limits_the_changes() -> None:
    """What the mask does not name is neither changed nor checked."""
    assert changes(["max_score", "max_score"], title="\0", max_score=3) == {"max_score": 3}


def test_changed_bounds_are_held_against_each_other() -> None:
    """Bounds that change together must not cross."""
    with pytest.raises(InvalidInput) as caught:
        changes(["min_score", "max_score"], min_score=2, max_score=1)

    assert caught.value.field == "board.min_score"


def test_an_update_needs_a_board() -> None:
    """A request without a board names the missing name."""
    with pytest.raises(InvalidInput) as caught:
        decode_board_id(pb.UpdateBoardRequest())

    assert caught.value.field == "board.board_id"


@pytest.mark.parametrize("etag", ["x" * 65, "a\0", "é"])
def test_bad_etags(etag: str) -> None:
    """What cannot be an etag never reaches a store."""
    with pytest.raises(InvalidInput) as caught:
        decode_etag(etag, "etag")

    assert caught.value.field == "etag"


def test_a_stored_board() -> None:
    """A board comes out with everything the server knows."""
    board = encode_board(BOARD)

    assert (
        board.board_id,
        board.title,
        board.current_season_id,
        board.etag,
        board.client_writes,
    ) == ("arena", "Arena", "s1", "5-2", True)
    assert (board.create_time.ToMilliseconds(), board.update_time.ToMilliseconds()) == (1000, 2500)
