"""What a question may be."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from core.errors import InvalidInput
from core.types import EntryView, RankMode, ReadOptions
from server.rpc.codec import fields
from server.rpc.codec.entries import decode_options, decode_start_rank, decode_user_ids
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2


def options(**changes: Any) -> ReadOptions:
    """Read options as the core gets them."""
    return decode_options(pb.GetEntryRequest(options=types_pb2.ReadOptions(**changes)))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rank_mode": 3}, "options.rank_mode"),
        ({"rank_mode": 999}, "options.rank_mode"),
        ({"view": -1}, "options.view"),
        ({"season_id": "S1"}, "options.season_id"),
        ({"season_id": "a" * 65}, "options.season_id"),
        pytest.param({"consistency_token": "a" * 16_385}, "options.consistency_token", id="long"),
        ({"consistency_token": "a\0"}, "options.consistency_token"),
        ({"max_staleness": Duration(seconds=-1)}, "options.max_staleness"),
        ({"max_staleness": Duration(nanos=-1)}, "options.max_staleness"),
        ({"max_staleness": Duration(nanos=1_000_000_000)}, "options.max_staleness"),
        ({"max_staleness": Duration(seconds=86_400, nanos=1)}, "options.max_staleness"),
        ({"max_staleness": Duration(seconds=2**63 - 1)}, "options.max_staleness"),
    ],
    ids=str,
)
def test_bad_options(changes: dict[str, Any], field: str) -> None:
    """An option that the contract does not allow is named."""
    with pytest.raises(InvalidInput) as caught:
        options(**changes)

    assert caught.value.field == field


def test_options_default() -> None:
    """No options, and options that say nothing, mean the same."""
    assert decode_options(pb.GetEntryRequest()) == options() == ReadOptions()


def test_good_options() -> None:
    """All options arrive; allow_partial is only a permission."""
    wanted = ReadOptions(RankMode.COMPETITION, EntryView.FULL, "t" * 4096, "s1", 86_400_000)
    got = options(
        rank_mode=2,
        view=2,
        consistency_token="t" * 4096,
        season_id="s1",
        max_staleness=Duration(seconds=86_400),
        allow_partial=True,
    )

    assert wanted == got
    assert options(max_staleness=Duration()).max_staleness_ms == 0
    assert options(max_staleness=Duration(nanos=1_999_999)).max_staleness_ms == 1


@pytest.mark.parametrize(
    ("user_ids", "field"),
    [
        ([], "user_ids"),
        ([1] * 1001, "user_ids"),
        ([1, 0], "user_ids[1]"),
        ([1, 2, -5], "user_ids[2]"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_user_ids(user_ids: list[int], field: str) -> None:
    """A list holds 1 to 1,000 users, repeated ones counted."""
    with pytest.raises(InvalidInput) as caught:
        decode_user_ids(user_ids)

    assert caught.value.field == field


@pytest.mark.parametrize("page_size", [-1, 1001, 2**31 - 1, -(2**31)])
def test_bad_page_sizes(page_size: int) -> None:
    """A page size past the limit is refused, and the limit is named."""
    with pytest.raises(InvalidInput, match="1000") as caught:
        fields.page_size(page_size, default=10)

    assert caught.value.field == "page_size"


@pytest.mark.parametrize(("page_size", "wanted"), [(0, 10), (1, 1), (1000, 1000)])
def test_good_page_sizes(page_size: int, wanted: int) -> None:
    """0 means the default."""
    assert fields.page_size(page_size, default=10) == wanted


@pytest.mark.parametrize(
    "changes",
    [{"start_rank": 0}, {"start_rank": -1}, {"start_rank": 5, "page_token": "x"}],
    ids=str,
)
def test_bad_start_ranks(changes: dict[str, Any]) -> None:
    """Ranks begin at 1, and a token already says where to go on."""
    with pytest.raises(InvalidInput) as caught:
        decode_start_rank(pb.ListEntriesRequest(**changes))

    assert caught.value.field == "start_rank"


def test_no_start_rank() -> None:
    """A page without start_rank has none."""
    assert decode_start_rank(pb.ListEntriesRequest(page_token="x")) is None
