"""Submissions that change nothing, on real stores: what they are told is shown to their token."""

from __future__ import annotations

import pytest

from core.batching import SubmissionBatcher
from core.board_directory import BoardDirectory
from core.clock import SystemClock
from core.errors import ReadBehind
from core.get_entry import GetEntry
from core.own_writes import OwnWrites
from core.reading import Reading
from core.submit_scores import SubmitScores
from core.tokens import TokenSigner
from core.types import (
    Board,
    Operator,
    Outcome,
    ReadOptions,
    Submission,
    SubmitResult,
)
from tests.fakes.making import board_spec, submission
from tests.fixtures.keeping import Kept

pytestmark = pytest.mark.both_engines


class Worker:
    """What one process has of submissions and reads."""

    def __init__(self, kept: Kept) -> None:
        boards = BoardDirectory(kept.boards, SystemClock())
        reading = Reading(
            boards=boards,
            entries=kept.index,
            ledger=kept.ledger,
            signer=TokenSigner([b"a secret of sixteen bytes or more"]),
            clock=SystemClock(),
        )
        self._get_entry = GetEntry(reading)
        self._submit_scores = SubmitScores(
            reading,
            kept.index,
            SubmissionBatcher(
                ledger=kept.ledger, index=kept.index, boards=boards, observer=OwnWrites()
            ),
        )

    async def submit(self, asked: Submission) -> tuple[SubmitResult, str]:
        """What a submission is told, and its token."""
        answer = await self._submit_scores([asked])
        (result,) = answer.results
        assert isinstance(result, SubmitResult), result
        return result, answer.consistency_token

    async def score(self, user_id: int, token: str) -> int:
        """The score that a read with a token shows."""
        options = ReadOptions(consistency_token=token)
        entry, _ = await self._get_entry("board", user_id, options)
        return entry.standing.score


@pytest.fixture
async def board(kept: Kept) -> Board:
    """A board whose index is built."""
    board = await kept.boards.create(board_spec(operator=Operator.SET, max_score=10))
    await kept.build.season(board.season.number)
    return board


@pytest.mark.parametrize(
    ("score", "outcome"), [(9, Outcome.UNCHANGED), (11, Outcome.REJECTED)], ids=["same", "refused"]
)
async def test_a_token_waits_for_the_change_that_an_answer_told_of(
    kept: Kept, board: Board, score: int, outcome: Outcome
) -> None:
    """Another worker's change is committed and has not reached the index: a read with the token,
    or with that of a retry, shows no older state than the submission was told.
    """
    worker = Worker(kept)
    await kept.apply(await kept.record(board, [submission(1, 5)]))
    await kept.record(board, [submission(1, 9)])
    sent = submission(1, score)
    told, token = await worker.submit(sent)
    again, token_again = await worker.submit(sent)
    assert told.recorded.entry is not None
    assert (told.recorded.outcome, told.recorded.entry.score, told.indexed) == (outcome, 9, True)
    assert (again.recorded.outcome, token_again) == (Outcome.DUPLICATE, token)
    assert await worker.score(1, "") == 5
    with pytest.raises(ReadBehind):
        await worker.score(1, token)
    await kept.catch_up()

    assert await worker.score(1, token) == 9


async def test_a_token_of_no_change_is_good_at_once(kept: Kept, board: Board) -> None:
    """Where the index has what was changed last there is nothing to wait for."""
    worker = Worker(kept)
    await worker.submit(submission(1, 9))

    result, token = await worker.submit(submission(1, 9))

    assert (result.recorded.outcome, result.indexed) == (Outcome.UNCHANGED, True)
    assert await worker.score(1, token) == 9
