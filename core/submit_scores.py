"""The story of a score: looked up, recorded, indexed, answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.batching import Settled, SubmissionBatcher
from core.errors import ClientWritesRefused, StandingsError, Unavailable
from core.ordering import KEY_BYTES
from core.ports import Freshness, Index
from core.reading import Question, Reading
from core.tokens import merge_writes
from core.types import (
    Board,
    Outcome,
    RankMode,
    Recorded,
    Submission,
    SubmitResult,
    shard_of,
)
from core.values import value


@value
class SubmitResults:
    """A result for each submission, in order; the token stands for all that were recorded."""

    results: Sequence[SubmitResult | StandingsError]
    consistency_token: str


@dataclass(slots=True)
class _Asked:
    """A submission that went into the batcher."""

    submission: Submission
    board: Board


@dataclass(slots=True)
class _Done:
    """A submission that is recorded and asks for more, and what is known of it so far; `place`
    among the results.
    """

    place: int
    asked: _Asked
    recorded: Recorded
    indexed: bool
    rank: int | None = None

    @property
    def user_id(self) -> int:
        """Whose score it is."""
        return self.asked.submission.user_id

    @property
    def shard(self) -> int:
        """Where the index keeps it."""
        return shard_of(self.user_id)


@dataclass(frozen=True, slots=True)
class SubmitScores:
    """Answers SubmitScore, BatchSubmitScores and each message of StreamSubmitScores."""

    reading: Reading
    index: Index
    batcher: SubmissionBatcher

    async def __call__(self, submissions: Sequence[Submission | StandingsError]) -> SubmitResults:
        """Records submissions; an error given in place of one comes back in its place.

        Cost: two round trips to PostgreSQL and one to the index, shared with whatever else is
        submitted at the moment; one more to each for duplicates, two to the index for ranks.
        Raises QueueFull, and then none of them was taken.
        """
        return await (await self.enqueue(submissions, source=object()))

    async def enqueue(
        self, submissions: Sequence[Submission | StandingsError], *, source: Hashable
    ) -> Awaitable[SubmitResults]:
        """Takes submissions in and returns when they have their place in line.

        Await what it returns to learn what became of them. Submissions of one `source` arrive in
        the order of the calls, if each call is awaited before the next.
        """
        entries = await self._look_up(submissions)
        settled = self.batcher.enqueue(
            [(entry.submission, entry.board) for entry in entries if isinstance(entry, _Asked)],
            source=source,
        )
        return self._answer(entries, settled)

    async def _look_up(
        self, submissions: Sequence[Submission | StandingsError]
    ) -> Sequence[_Asked | StandingsError]:
        """The submissions with their boards, or why there is none."""
        boards: dict[str, Board | StandingsError] = {}
        entries: list[_Asked | StandingsError] = []
        for submission in submissions:
            if isinstance(submission, StandingsError):
                entries.append(submission)
                continue
            board = boards.get(submission.board_id)
            if board is None:
                board = boards[submission.board_id] = await self._board(submission.board_id)
            entries.append(
                board if isinstance(board, StandingsError) else _admitted(submission, board)
            )
        return entries

    async def _board(self, board_id: str) -> Board | StandingsError:
        try:
            return await self.reading.boards.get(board_id)
        except StandingsError as error:
            return error

    async def _answer(
        self,
        entries: Sequence[_Asked | StandingsError],
        settled: Awaitable[Sequence[Settled | StandingsError]],
    ) -> SubmitResults:
        outcomes = iter(await settled)
        results: list[SubmitResult | StandingsError] = []
        writes: list[tuple[int, int, int]] = []
        more: list[_Done] = []
        for entry in entries:
            if isinstance(entry, StandingsError):
                results.append(entry)
                continue
            outcome = next(outcomes)
            if isinstance(outcome, StandingsError):
                results.append(outcome)
                continue
            submission, recorded = entry.submission, outcome.recorded
            if _was_written_before(recorded) or submission.return_rank:
                more.append(_Done(len(results), entry, recorded, outcome.indexed))
            results.append(SubmitResult(recorded, outcome.indexed))
            writes.append((recorded.season.number, recorded.xid, shard_of(submission.user_id)))
        if more:
            await self._fill_indexed(more)
            await self._fill_ranks([done for done in more if done.asked.submission.return_rank])
            for done in more:
                results[done.place] = SubmitResult(done.recorded, done.indexed, done.rank)
        return SubmitResults(results, self.reading.signer.consistency(merge_writes(writes)))

    async def _fill_indexed(self, done: Iterable[_Done]) -> None:
        """Whether the index shows what duplicates changed in the past; a round trip for all."""
        groups: dict[tuple[int, int], list[_Done]] = {}
        for item in done:
            if _was_written_before(item.recorded):
                groups.setdefault((item.recorded.season.number, item.shard), []).append(item)
        if not groups:
            return
        shown = await asyncio.gather(
            *(self._shows(season, group) for (season, _), group in groups.items())
        )
        for group, indexed in zip(groups.values(), shown, strict=True):
            for item in group:
                item.indexed = indexed

    async def _shows(self, season_number: int, group: Sequence[_Done]) -> bool:
        """Whether a shard has the transactions of its submissions."""
        try:
            await self.index.users(
                season_number,
                [group[0].user_id],
                cutoff_bytes=KEY_BYTES,
                fresh=Freshness(_xids_by_shard(group)),
            )
        except Unavailable:
            return False
        return True

    async def _fill_ranks(self, done: Iterable[_Done]) -> None:
        """The rank of each entry now. The writes stand whether or not their ranks are known."""
        by_board: dict[int, list[_Done]] = {}
        for item in done:
            by_board.setdefault(item.asked.board.number, []).append(item)
        for group in by_board.values():
            board = group[0].asked.board
            question = Question(
                board=board,
                season=board.season,
                fresh=Freshness(_xids_by_shard(group)),
                as_of_ms=self.reading.clock.now_ms(),
                entries=self.index,
            )
            user_ids = list({item.user_id for item in group})
            try:
                # Whoever submits is the owner, and is told the rank of a hidden entry as well.
                ranks, _ = await self.reading.rank(
                    question, user_ids, RankMode.ORDINAL, owners=user_ids
                )
            except StandingsError:
                continue
            for item in group:
                if item.user_id in ranks:
                    item.rank = ranks[item.user_id][1]


def _was_written_before(recorded: Recorded) -> bool:
    """Whether a submission changed the index when it came the first time."""
    return recorded.outcome is Outcome.DUPLICATE and recorded.touches_index


def _admitted(submission: Submission, board: Board) -> _Asked | StandingsError:
    if submission.by_player and not board.spec.client_writes:
        return ClientWritesRefused()
    return _Asked(submission, board)


def _xids_by_shard(done: Iterable[_Done]) -> Mapping[int, tuple[int, ...]]:
    """For each shard, the transactions behind what is told of these submissions."""
    xids: dict[int, set[int]] = {}
    for item in done:
        if item.recorded.xid:
            xids.setdefault(item.shard, set()).add(item.recorded.xid)
    return {shard: tuple(ids) for shard, ids in xids.items()}
