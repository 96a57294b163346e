"""What a submitter is told beside the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import pytest

from core.batching import Settled
from core.submit_scores import SubmitScores
from core.types import Board, EntryState, Outcome, Recorded, Season, Submission
from tests.fakes.making import board_spec, submission
from tests.fakes.memory_index import MemoryIndex, reading_of

BOARD = Board(1, board_spec(), Season(1, "s1"), 1, 0, 0)


@dataclass
class RecordedBefore:
    """A batcher that finds everything as submitted, by the transaction `xid`."""

    xid: int = 1

    def enqueue(
        self, submissions: Sequence[tuple[Submission, Board]], *, source: Hashable
    ) -> asyncio.Future[list[Settled]]:
        """Settles at once."""
        future = asyncio.get_running_loop().create_future()
        future.set_result(
            [
                Settled(
                    Recorded(
                        submission_id=item.submission_id,
                        outcome=Outcome.UNCHANGED,
                        first_outcome=Outcome.UNCHANGED,
                        entry=None,
                        previous=None,
                        season=board.season,
                        xid=self.xid,
                        touches_index=False,
                    ),
                    indexed=True,
                )
                for item, board in submissions
            ]
        )
        return future


@pytest.mark.parametrize("state", [EntryState.LIVE, EntryState.HIDDEN])
async def test_a_submitter_is_told_the_own_rank_hidden_or_not(state: EntryState) -> None:
    """Everybody in a batch is the owner of the own entry; a hidden one moves nobody."""
    index = MemoryIndex()
    index.put(BOARD, (1, 30, 0), arrival=1)
    index.put(BOARD, (2, 20, 0), arrival=2, state=state)
    index.put(BOARD, (3, 10, 0), arrival=3)
    submit_scores = SubmitScores(reading_of(index, BOARD), index, RecordedBefore())
    asked = [replace(submission(user, 1), return_rank=True) for user in (3, 2, 1)]

    answer = await submit_scores(asked)

    last = 3 if state is EntryState.LIVE else 2
    assert [result.rank for result in answer.results] == [last, 2, 1]


@pytest.mark.parametrize(("xid", "named"), [(7, [(7, 0b1010)]), (0, [])])
async def test_the_token_names_what_made_the_entries_as_they_are_told(
    xid: int, named: list[tuple[int, int]]
) -> None:
    """Not only what the submissions themselves have changed."""
    index = MemoryIndex()
    reading = reading_of(index, BOARD)
    submit_scores = SubmitScores(reading, index, RecordedBefore(xid))

    answer = await submit_scores([submission(user, 1) for user in (1, 3)])

    assert list(reading.signer.writes(answer.consistency_token).transactions) == named
    assert [result.indexed for result in answer.results] == [True, True]
