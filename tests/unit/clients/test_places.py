"""Questions about places on a board: what is sent, and what is made of the answer."""

from typing import Any

import pytest

from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2
from standings_client import RankMode, RankTarget, ScorePoint
from tests.unit.clients.faces import Either
from tests.unit.clients.fake_server import Fake

pytestmark = pytest.mark.timeout(30)


async def test_a_page_may_be_a_range_of_scores(client: Either, fake: Fake) -> None:
    """Bounds may be zero, and the page carries the tokens of both neighbours."""
    fake.tell("ListEntries", pb.ListEntriesResponse(next_page_token="n", previous_page_token="p"))

    page = await client.call("list_entries", "board", min_score=0, max_score=-5)

    (request,) = fake.asked["ListEntries"]
    assert (request.HasField("min_score"), request.min_score) == (True, 0)
    assert (request.max_score, request.HasField("start_rank")) == (-5, False)
    assert (page.next_page_token, page.previous_page_token) == ("n", "p")


async def test_a_page_without_bounds_names_none(client: Either, fake: Fake) -> None:
    """No bound is not a bound of zero."""
    await client.call("list_entries", "board")

    (request,) = fake.asked["ListEntries"]
    assert not request.HasField("min_score")
    assert not request.HasField("max_score")


async def test_a_walk_keeps_its_range(client: Either, fake: Fake) -> None:
    """Each page has the same bounds; only the first names where it begins."""
    await client.call("iter_entries", "board", page_size=2, start_rank=2, min_score=1, max_score=9)

    requests = fake.asked["ListEntries"]
    assert [(one.min_score, one.max_score) for one in requests] == [(1, 9), (1, 9)]
    assert [one.HasField("start_rank") for one in requests] == [True, False]


async def test_the_entries_around_a_user(client: Either, fake: Fake) -> None:
    """The user, both sides and whoever looks reach the server."""
    answer = await client.call(
        "list_entries_around", "board", user_id=7, above=0, below=3, viewer_user_id=7
    )

    (request,) = fake.asked["ListEntriesAround"]
    assert (request.WhichOneof("center"), request.user_id) == ("user_id", 7)
    assert (request.HasField("above"), request.above, request.below) == (True, 0, 3)
    assert request.options.viewer_user_id == 7
    assert [entry.user_id for entry in answer.entries] == [6, 7, 8]


async def test_the_entries_around_a_result(client: Either, fake: Fake) -> None:
    """A score of zero is a result, and sides that are not named are left to the server."""
    await client.call("list_entries_around", "board", score=0, subscore=-1, above=None)

    (request,) = fake.asked["ListEntriesAround"]
    assert request.score_point == pb.ScorePoint(score=0, subscore=-1)
    assert request.WhichOneof("center") == "score_point"
    assert not request.HasField("above")
    assert not request.HasField("below")


@pytest.mark.parametrize("center", [{}, {"user_id": 7, "score": 0}], ids=str)
async def test_around_nothing_or_both_is_refused(client: Either, fake: Fake, center: Any) -> None:
    """Exactly one place; nothing is sent."""
    with pytest.raises(ValueError, match="exactly one"):
        await client.call("list_entries_around", "board", **center)

    assert fake.asked["ListEntriesAround"] == []


async def test_a_user_of_zero_is_for_the_server_to_refuse(client: Either, fake: Fake) -> None:
    """What is given is sent, also where it is wrong."""
    await client.call("list_entries_around", "board", user_id=0)

    assert fake.asked["ListEntriesAround"][0].WhichOneof("center") == "user_id"


async def test_a_hidden_entry_says_so(client: Either, fake: Fake) -> None:
    """What only its owner sees is marked."""
    entry = types_pb2.Entry(user_id=7, hidden=True)
    fake.tell("GetEntry", pb.GetEntryResponse(entry=entry))

    answer = await client.call("get_entry", "board", 7, viewer_user_id=7)

    assert answer.entry.hidden
    assert fake.asked["GetEntry"][0].options.viewer_user_id == 7


async def test_what_a_result_would_be_worth(client: Either, fake: Fake) -> None:
    """The targets go out, and what was not asked comes back as None."""
    estimate = await client.call(
        "estimate_rank",
        "board",
        0,
        subscore=2,
        target_rank=1,
        target_percent=2.5,
        rank_mode=RankMode.COMPETITION,
    )

    (request,) = fake.asked["EstimateRank"]
    assert (request.HasField("score"), request.score, request.subscore) == (True, 0, 2)
    assert (request.target_rank, request.target_percent) == (1, 2.5)
    assert request.options.rank_mode == types_pb2.RANK_MODE_COMPETITION
    assert (estimate.rank, estimate.rank_low, estimate.rank_high) == (2, 2, 2)
    assert estimate.next == RankTarget(
        rank=1, score=9, subscore=0, score_needed=10, score_gap=3, reached=False
    )
    assert (estimate.for_rank, estimate.for_percent) == (None, None)


async def test_a_target_nobody_stands_at_has_no_result(client: Either, fake: Fake) -> None:
    """Absent numbers are None, not zero, and unasked targets are not sent."""
    fake.tell("EstimateRank", pb.EstimateRankResponse(for_rank=pb.RankTarget(rank=5, reached=True)))

    estimate = await client.call("estimate_rank", "board", 7)

    (request,) = fake.asked["EstimateRank"]
    assert not request.HasField("target_rank")
    assert not request.HasField("target_percent")
    assert estimate.for_rank == RankTarget(
        rank=5, score=None, subscore=None, score_needed=None, score_gap=0, reached=True
    )


async def test_the_result_at_a_percent(client: Either, fake: Fake) -> None:
    """An empty board has none."""
    fake.tell("GetPercentile", pb.GetPercentileResponse(percent=1.5))

    percentile = await client.call("get_percentile", "board", 1.5)

    assert fake.asked["GetPercentile"][0].WhichOneof("point") == "percent"
    assert (percentile.percent, percentile.rank, percentile.point) == (1.5, 0, None)


async def test_the_percent_of_a_result(client: Either, fake: Fake) -> None:
    """A result of zero is a result."""
    percentile = await client.call("get_percentile", "board", score=0, season_id="s1")

    (request,) = fake.asked["GetPercentile"]
    assert (request.WhichOneof("point"), request.options.season_id) == ("score_point", "s1")
    assert (percentile.rank, percentile.point) == (3, ScorePoint(0))


@pytest.mark.parametrize("point", [{}, {"percent": 1.0, "score": 0}], ids=str)
async def test_a_percentile_of_nothing_or_both_is_refused(client: Either, point: Any) -> None:
    """Exactly one question."""
    with pytest.raises(ValueError, match="exactly one"):
        await client.call("get_percentile", "board", **point)
