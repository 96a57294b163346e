"""What a question may be."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from core.errors import InvalidInput
from core.types import EntryView, RankMode, ReadOptions, ScorePoint, ScoreRange
from server.rpc.codec import fields
from server.rpc.codec.entries import (
    decode_options,
    decode_scores,
    decode_start_rank,
    decode_user_ids,
)
from server.rpc.codec.places import (
    decode_center,
    decode_estimate,
    decode_percentile,
    decode_sides,
)
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
        ({"viewer_user_id": -1}, "options.viewer_user_id"),
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
    """All options arrive."""
    wanted = ReadOptions(
        RankMode.COMPETITION, EntryView.FULL, "t" * 4096, "s1", 86_400_000, 42, allow_partial=True
    )
    got = options(
        rank_mode=2,
        view=2,
        consistency_token="t" * 4096,
        season_id="s1",
        max_staleness=Duration(seconds=86_400),
        allow_partial=True,
        viewer_user_id=42,
    )

    assert wanted == got
    assert options(max_staleness=Duration()).max_staleness_ms == 0
    assert options(max_staleness=Duration(nanos=1_999_999)).max_staleness_ms == 1


@pytest.mark.parametrize(
    ("user_ids", "field"),
    [
        ([1] * 1001, "user_ids"),
        ([1, 0], "user_ids[1]"),
        ([1, 2, -5], "user_ids[2]"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_user_ids(user_ids: list[int], field: str) -> None:
    """A list holds at most 1,000 users, repeated ones counted."""
    with pytest.raises(InvalidInput) as caught:
        decode_user_ids(user_ids)

    assert caught.value.field == field


def test_nobody_is_a_good_list() -> None:
    """Who has no friends may ask for them."""
    assert decode_user_ids([]) == ()


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


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, ScoreRange()),
        ({"min_score": 0}, ScoreRange(low=0)),
        ({"max_score": -5}, ScoreRange(high=-5)),
        ({"min_score": 3, "max_score": 3}, ScoreRange(3, 3)),
        ({"min_score": -(2**63), "max_score": 2**63 - 1}, ScoreRange(-(2**63), 2**63 - 1)),
    ],
    ids=str,
)
def test_good_ranges(changes: dict[str, Any], wanted: ScoreRange) -> None:
    """A bound that is not set is open, and 0 is a bound."""
    assert decode_scores(pb.ListEntriesRequest(**changes)) == wanted


def test_a_range_turned_around() -> None:
    """The least score may not be above the greatest."""
    with pytest.raises(InvalidInput) as caught:
        decode_scores(pb.ListEntriesRequest(min_score=4, max_score=3))

    assert caught.value.field == "min_score"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({}, "center"),
        ({"user_id": 0}, "user_id"),
        ({"score_point": pb.ScorePoint()}, "score_point.score"),
        ({"score_point": pb.ScorePoint(subscore=1)}, "score_point.score"),
    ],
    ids=str,
)
def test_bad_centers(changes: dict[str, Any], field: str) -> None:
    """A window is around a user or around a result that says its score."""
    with pytest.raises(InvalidInput) as caught:
        decode_center(pb.ListEntriesAroundRequest(**changes))

    assert caught.value.field == field


def test_good_centers() -> None:
    """A score of 0 is a score."""
    point = pb.ListEntriesAroundRequest(score_point=pb.ScorePoint(score=0, subscore=-2))
    assert decode_center(point) == ScorePoint(0, -2)
    assert decode_center(pb.ListEntriesAroundRequest(user_id=2**63 - 1)) == 2**63 - 1


def test_sides() -> None:
    """Five where nothing is said; 0 is said; 101 is too many, and the limit is named."""
    assert decode_sides(pb.ListEntriesAroundRequest()) == (5, 5)
    assert decode_sides(pb.ListEntriesAroundRequest(above=0, below=100)) == (0, 100)
    for bad in ({"above": 101}, {"above": -1}, {"below": 101}, {"below": -1}):
        with pytest.raises(InvalidInput, match="100") as caught:
            decode_sides(pb.ListEntriesAroundRequest(**bad))
        assert caught.value.field in bad


@pytest.mark.parametrize("percent", [0.0, -1.0, 100.1, float("nan"), float("inf"), -0.0])
def test_bad_percents(percent: float) -> None:
    """A share of the board is above 0 and at most 100."""
    with pytest.raises(InvalidInput) as caught:
        decode_percentile(pb.GetPercentileRequest(percent=percent))
    assert caught.value.field == "percent"
    with pytest.raises(InvalidInput) as caught:
        decode_estimate(pb.EstimateRankRequest(score=1, target_percent=percent))
    assert caught.value.field == "target_percent"


@pytest.mark.parametrize(
    ("changes", "field"),
    [({}, "score"), ({"subscore": 3}, "score"), ({"score": 1, "target_rank": 0}, "target_rank")],
    ids=str,
)
def test_bad_estimates(changes: dict[str, Any], field: str) -> None:
    """An estimate is of a score, for ranks from 1 on."""
    with pytest.raises(InvalidInput) as caught:
        decode_estimate(pb.EstimateRankRequest(**changes))

    assert caught.value.field == field


def test_good_estimates_and_percentiles() -> None:
    """What is set arrives."""
    request = pb.EstimateRankRequest(score=0, subscore=4, target_rank=1, target_percent=0.5)
    assert decode_estimate(request) == (ScorePoint(0, 4), 1, 0.5)
    assert decode_estimate(pb.EstimateRankRequest(score=-1)) == (ScorePoint(-1), None, None)
    assert decode_percentile(pb.GetPercentileRequest(percent=100)) == 100
    by_score = pb.GetPercentileRequest(score_point=pb.ScorePoint(score=5))
    assert decode_percentile(by_score) == ScorePoint(5)
    with pytest.raises(InvalidInput) as caught:
        decode_percentile(pb.GetPercentileRequest())
    assert caught.value.field == "point"
