"""The happy path of the reads by place, of deletions and of moderation, over the wire."""

from __future__ import annotations

from core.types import Erasure, ReadOptions, ScorePoint, ScoreRange
from standings.v1 import moderation_service_pb2 as mod_pb
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2
from tests.unit.server.fakes import MINTED_ID, SOME_ID, Serving


async def test_a_range_of_scores(serving: Serving) -> None:
    """A page goes in with its range and comes out with a token to each side."""
    request = pb.ListEntriesRequest(board_id="arena", start_rank=9, min_score=0, max_score=50)

    answer = await serving.ranking.ListEntries(request)

    assert (answer.next_page_token, answer.previous_page_token) == ("next", "previous")
    assert serving.fakes.arguments == [
        (
            "arena",
            {
                "page_size": 10,
                "page_token": "",
                "start_rank": 9,
                "scores": ScoreRange(0, 50),
                "options": ReadOptions(),
            },
        )
    ]


async def test_an_old_answer_says_so(serving: Serving) -> None:
    """Staleness comes with its flag."""
    answer = await serving.ranking.ListEntries(pb.ListEntriesRequest(board_id="arena"))

    assert answer.meta.stale
    assert answer.meta.staleness.ToMilliseconds() == 1_250


async def test_list_entries_around(serving: Serving) -> None:
    """A window around a user, and around a result."""
    options = types_pb2.ReadOptions(viewer_user_id=42)
    by_user = pb.ListEntriesAroundRequest(board_id="arena", user_id=42, above=0, options=options)
    by_result = pb.ListEntriesAroundRequest(board_id="arena", score_point=pb.ScorePoint(score=3))

    answer = await serving.ranking.ListEntriesAround(by_user)
    await serving.ranking.ListEntriesAround(by_result)

    (entry,) = answer.entries
    assert (entry.user_id, entry.rank, entry.hidden) == (42, 17, True)
    viewer = ReadOptions(viewer_user_id=42)
    assert serving.fakes.arguments == [
        ("arena", 42, {"above": 0, "below": 5, "options": viewer}),
        ("arena", ScorePoint(3), {"above": 5, "below": 5, "options": ReadOptions()}),
    ]


async def test_estimate_rank(serving: Serving) -> None:
    """An estimate with the targets that there are; distances past int64 fit."""
    request = pb.EstimateRankRequest(board_id="arena", score=7, target_rank=4, target_percent=10)

    answer = await serving.ranking.EstimateRank(request)

    assert (answer.rank, answer.rank_low, answer.rank_high) == (5, 5, 5)
    assert (answer.next.rank, answer.next.score, answer.next.score_needed) == (4, 12, 13)
    assert answer.next.score_gap == 2**63 + 5
    assert not answer.next.HasField("subscore")
    assert not answer.HasField("for_rank")
    assert answer.HasField("for_percent")
    arguments = {"target_rank": 4, "target_percent": 10.0, "options": ReadOptions()}
    assert serving.fakes.arguments == [("arena", ScorePoint(7), arguments)]


async def test_get_percentile(serving: Serving) -> None:
    """By percent and by result."""
    by_percent = pb.GetPercentileRequest(board_id="arena", percent=12.5)
    by_result = pb.GetPercentileRequest(board_id="arena", score_point=pb.ScorePoint(score=7))

    answer = await serving.ranking.GetPercentile(by_percent)
    await serving.ranking.GetPercentile(by_result)

    assert (answer.percent, answer.rank) == (12.5, 3)
    assert (answer.score_point.score, answer.score_point.subscore) == (7, -8)
    assert [asked for _, asked, _ in serving.fakes.arguments] == [12.5, ScorePoint(7)]


async def test_delete_entry(serving: Serving) -> None:
    """A deletion has an id like a submission, and its digest tells what it deletes."""
    stub = serving.ranking
    first = await stub.DeleteEntry(
        pb.DeleteEntryRequest(board_id="arena", user_id=42, submission_id=SOME_ID)
    )
    for other in (
        pb.DeleteEntryRequest(board_id="arena", user_id=43, season_id="s1"),
        pb.DeleteEntryRequest(board_id="arena", user_id=42, season_id="s1"),
        pb.DeleteEntryRequest(board_id="arenas", user_id=42, season_id="1"),
    ):
        assert (await stub.DeleteEntry(other)).submission_id == MINTED_ID

    assert (first.outcome, first.indexed) == (types_pb2.OUTCOME_APPLIED, True)
    assert (first.submission_id, first.consistency_token) == (SOME_ID.lower(), "token")
    assert (first.deleted_entry.user_id, first.deleted_entry.score) == (42, 10)
    assert len({arguments["digest"] for _, _, arguments in serving.fakes.arguments}) == 4


async def test_hide_and_restore_user(serving: Serving) -> None:
    """On one board, and everywhere; the audit is told who asked, why, and in which call."""
    metadata = (("x-request-id", "ticket-12345"),)
    hide = mod_pb.HideUserRequest(user_id=42, board_id="arena", reason="cheats")

    hidden = await serving.moderation.HideUser(hide, metadata=metadata)
    restored = await serving.moderation.RestoreUser(mod_pb.RestoreUserRequest(user_id=42))

    assert (hidden.changed, hidden.entry_count, hidden.indexed) == (True, 2, True)
    assert (restored.changed, restored.still_hidden) == (True, True)
    assert serving.fakes.arguments == [(42, "arena"), (42, "")]
    action = serving.fakes.audit.written[0].content
    assert (action["target"], action["reason"]) == ("board/arena/user/42", "cheats")
    assert action["request_id"] == "ticket-12345"
    assert "127.0.0.1" in action["actor"]


async def test_delete_user(serving: Serving) -> None:
    """A deletion tells how far it is."""
    request = mod_pb.DeleteUserRequest(user_id=42, erasure=mod_pb.ERASURE_ANONYMIZE)

    answer = await serving.moderation.DeleteUser(request)

    assert (answer.deleted_entry_count, answer.erased_submission_count) == (3, 4)
    assert (answer.done, answer.indexed, answer.erasure) == (False, False, request.erasure)
    assert answer.create_time.ToMilliseconds() == 1_700_000_000_000
    assert not answer.HasField("complete_time")
    assert serving.fakes.arguments[0][:2] == (42, Erasure.ANONYMIZE)
