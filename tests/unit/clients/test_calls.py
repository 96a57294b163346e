"""What each method sends, and what it makes of the answer."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2
from standings_client import (
    Board,
    BoardNotFound,
    EntryView,
    Operator,
    Outcome,
    RankMode,
    SortOrder,
    Submission,
    SubmitResult,
    Unavailable,
    _codec,
)
from tests.unit.clients.faces import Either
from tests.unit.clients.fake_server import Fake, applied, refuse, status_of

pytestmark = pytest.mark.timeout(30)

INT64 = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(INT64, INT64, st.dictionaries(st.text(), JSON))
def test_a_submission_is_written_as_it_is(score: int, subscore: int, metadata: Any) -> None:
    """Every int64 and every JSON object goes into a message and comes out the same."""
    submission = Submission("board", 7, score, subscore, metadata=metadata)

    request = _codec.submit_request(submission, "id")

    entry = types_pb2.Entry(score=request.score, metadata=request.metadata)
    answer = _codec.entry_answer(pb.GetEntryResponse(entry=entry))
    assert (request.score, request.subscore) == (score, subscore)
    assert request.HasField("score")
    assert (answer.entry.score, answer.entry.metadata) == (score, metadata)


async def test_a_submission_says_all_it_may(client: Either, fake: Fake) -> None:
    """The options of a submission reach the server."""
    await client.call(
        "submit_score",
        "board",
        7,
        -1,
        subscore=3,
        operator=Operator.INCREMENT,
        metadata={"hero": "fox"},
        return_rank=True,
    )

    (request,) = fake.asked["SubmitScore"]
    assert (request.board_id, request.user_id, request.score) == ("board", 7, -1)
    assert (request.subscore, request.operator) == (3, types_pb2.OPERATOR_INCREMENT)
    assert (dict(request.metadata), request.return_rank) == ({"hero": "fox"}, True)


async def test_a_duplicate_tells_its_first_outcome(client: Either, fake: Fake) -> None:
    """Both outcomes and both entries are there; an absent entry is None."""
    fake.tell(
        "SubmitScore",
        pb.SubmitScoreResponse(
            outcome=types_pb2.OUTCOME_DUPLICATE, first_outcome=types_pb2.OUTCOME_REJECTED
        ),
    )

    result = await client.call("submit_score", "board", 7, 1)

    assert (result.outcome, result.first_outcome) == (Outcome.DUPLICATE, Outcome.REJECTED)
    assert (result.entry, result.previous_entry) == (None, None)


async def test_a_batch_has_results_and_errors_in_place(client: Either, fake: Fake) -> None:
    """Each item is its result or its error, in the order given."""

    def refuse_middle(request: Any, context: Any) -> Any:
        first, _, third = request.submissions
        error = status_of(StatusCode.NOT_FOUND, "BOARD_NOT_FOUND")
        return pb.BatchSubmitScoresResponse(
            results=[
                pb.BatchSubmitResult(response=applied(first)),
                pb.BatchSubmitResult(error=error),
                pb.BatchSubmitResult(response=applied(third)),
            ],
            consistency_token="batch",
        )

    fake.tell("BatchSubmitScores", refuse(StatusCode.UNAVAILABLE), refuse_middle)

    batch = await client.call(
        "batch_submit_scores", [Submission("board", user_id, 10) for user_id in (1, 2, 3)]
    )

    assert [type(one) for one in batch.results] == [SubmitResult, BoardNotFound, SubmitResult]
    assert batch.results[2].entry.user_id == 3
    assert batch.consistency_token == "batch"
    first, second = fake.asked["BatchSubmitScores"]
    assert first == second


class TestABatchWithIdsInTheFuture:
    """Some items of a batch are refused as of the future."""

    def refuse_first(self, request: Any, context: Any) -> Any:
        """Refuses the first item, takes the rest."""
        error = status_of(
            StatusCode.INVALID_ARGUMENT,
            "SUBMISSION_ID_IN_FUTURE",
            metadata={"server_time_ms": "1700000000000"},
        )
        rest = [pb.BatchSubmitResult(response=applied(one)) for one in request.submissions[1:]]
        return pb.BatchSubmitScoresResponse(results=[pb.BatchSubmitResult(error=error), *rest])

    async def test_sends_only_those_again(self, client: Either, fake: Fake) -> None:
        """The refused item goes again under a new id, and its result takes its place."""
        fake.tell("BatchSubmitScores", self.refuse_first)

        batch = await client.call(
            "batch_submit_scores", [Submission("board", user_id, 10) for user_id in (1, 2)]
        )

        _, second = fake.asked["BatchSubmitScores"]
        assert [one.user_id for one in second.submissions] == [1]
        assert [one.entry.user_id for one in batch.results] == [1, 2]

    async def test_keeps_the_others_when_that_fails(self, client: Either, fake: Fake) -> None:
        """What was recorded is told; only the refused item carries the later error."""
        fake.tell(
            "BatchSubmitScores",
            self.refuse_first,
            refuse(StatusCode.UNAVAILABLE, pushback="-1"),
        )

        batch = await client.call(
            "batch_submit_scores", [Submission("board", user_id, 10) for user_id in (1, 2)]
        )

        assert [type(one) for one in batch.results] == [Unavailable, SubmitResult]


async def test_a_read_says_how_it_is_to_be_answered(client: Either, fake: Fake) -> None:
    """The options of a read reach the server."""
    answer = await client.call(
        "get_entry",
        "board",
        7,
        rank_mode=RankMode.COMPETITION,
        view=EntryView.FULL,
        consistency_token="token",
        max_staleness=timedelta(milliseconds=1500),
        allow_partial=True,
        season_id="s1",
    )

    (request,) = fake.asked["GetEntry"]
    options = request.options
    assert options.rank_mode == types_pb2.RANK_MODE_COMPETITION
    assert options.view == types_pb2.ENTRY_VIEW_FULL
    assert options.max_staleness.ToMilliseconds() == 1500
    assert (options.consistency_token, options.season_id) == ("token", "s1")
    assert options.allow_partial
    assert (answer.entry.rank, answer.meta.season_id) == (1, "s1")


async def test_a_read_without_a_bound_names_none(client: Either, fake: Fake) -> None:
    """No max_staleness is not a max_staleness of zero."""
    await client.call("get_entry", "board", 7)

    assert not fake.asked["GetEntry"][0].options.HasField("max_staleness")


async def test_the_entries_of_some_users(client: Either) -> None:
    """The found and the missing come apart."""
    answer = await client.call("batch_get_entries", "board", [1, 2, 3])

    assert [entry.user_id for entry in answer.entries] == [1, 2]
    assert answer.missing_user_ids == (3,)


async def test_a_board_is_walked_page_by_page(client: Either, fake: Fake) -> None:
    """The iterator follows the tokens to the end, keeping the options."""
    entries = await client.call(
        "iter_entries", "board", page_size=2, start_rank=2, view=EntryView.FULL
    )

    assert [entry.rank for entry in entries] == [2, 3, 4, 5]
    assert [request.page_token for request in fake.asked["ListEntries"]] == ["", "4"]
    assert {request.options.view for request in fake.asked["ListEntries"]} == {2}


async def test_one_page_of_a_board(client: Either) -> None:
    """A page carries the token of the next."""
    page = await client.call("list_entries", "board", page_size=2)

    assert ([entry.rank for entry in page.entries], page.next_page_token) == ([1, 2], "3")


async def test_a_board_comes_back_as_it_was_made(client: Either) -> None:
    """The definition goes and comes whole, and its bounds may be absent or zero."""
    board = Board(
        board_id="weekly",
        title="Weekly",
        sort_order=SortOrder.ASCENDING,
        operator=Operator.SET,
        min_score=0,
        client_writes=True,
        metadata={"game": "fox"},
    )

    assert await client.call("boards.create", board) == board


async def test_a_board_is_changed_under_its_etag(client: Either, fake: Fake) -> None:
    """The etag that was read goes with the change, and the mask names the fields."""
    board = await client.call("boards.get", "weekly")

    await client.call("boards.update", replace(board, title="New"), fields=["title"])

    (request,) = fake.asked["UpdateBoard"]
    assert (request.board.etag, request.board.title) == ("1-1", "New")
    assert list(request.update_mask.paths) == ["title"]


async def test_boards_are_listed_and_deleted(client: Either, fake: Fake) -> None:
    """All boards by name over two pages; a delete may carry an etag."""
    boards = await client.call("boards.iter", page_size=2)
    await client.call("boards.delete", "a", etag="1-1")

    assert [board.board_id for board in boards] == ["a", "b", "c"]
    assert fake.asked["DeleteBoard"][0].etag == "1-1"


def test_times_are_aware() -> None:
    """A timestamp is a datetime in UTC, an absent one None."""
    entry = types_pb2.Entry()
    entry.achieve_time.FromMilliseconds(1_700_000_000_123)

    value = _codec.entry_answer(pb.GetEntryResponse(entry=entry)).entry

    assert value.achieve_time == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)
    assert value.update_time is None


def test_a_value_newer_than_the_client_is_unspecified() -> None:
    """An outcome of tomorrow does not break today's client."""
    assert Outcome(99) is Outcome.UNSPECIFIED
