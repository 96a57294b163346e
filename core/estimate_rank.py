"""Which rank a result would take, and what it takes to rise."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from core.get_percentile import rank_at
from core.index_views import NOTHING, as_old_as
from core.ordering import RESULT_BYTES
from core.ports import IndexView, KeyRange, Window
from core.reading import Question, Reading
from core.types import (
    INT64_MAX,
    INT64_MIN,
    RankMode,
    ReadMeta,
    ReadOptions,
    ScorePoint,
    SortOrder,
    Standing,
)


@dataclass(frozen=True, slots=True)
class RankTarget:
    """What it takes to reach a rank.

    `score` and `subscore` are of the entry that stands there, None: nobody does. `score_needed`
    None: no score within the board's bounds reaches the rank.
    """

    rank: int
    score: int | None
    subscore: int | None
    score_needed: int | None
    score_gap: int
    reached: bool


@dataclass(frozen=True, slots=True)
class RankEstimate:
    """The rank a result would take; `next` None: there is no better place. The two targets None:
    not asked for, or a percent of an empty board.
    """

    rank: int
    next: RankTarget | None
    for_rank: RankTarget | None
    for_percent: RankTarget | None
    meta: ReadMeta


@dataclass(frozen=True, slots=True)
class EstimateRank:
    """Answers EstimateRank."""

    reading: Reading

    async def __call__(
        self,
        board_id: str,
        point: ScorePoint,
        *,
        target_rank: int | None,
        target_percent: float | None,
        options: ReadOptions,
    ) -> RankEstimate:
        """The rank that a result would take if it arrived now: behind its equals, or with
        competition ranks the one it would share with them.

        Cost in round trips to the index: one, and one more for competition ranks where several
        stand at the next better result; beside these those of `EntryReads.page_at` for target_rank,
        behind the first those for target_percent. Raises BoardNotFound, SeasonNotFound, and
        Unavailable where the index cannot answer, or not as fresh as wanted.
        """
        question = await self.reading.question(board_id, options)
        estimate = _Estimate(self.reading, question, point, options.rank_mode)
        window, (holder, holder_view) = await asyncio.gather(
            estimate.window(), estimate.holder(target_rank)
        )
        view = as_old_as(window.view, holder_view)
        question.meta(view)
        rank = window.before + 1
        percent_rank = (
            rank_at(target_percent, window.view.entry_count) if target_percent is not None else 0
        )
        above, (percent_holder, percent_view) = await asyncio.gather(
            estimate.next(window), estimate.holder(percent_rank)
        )
        return RankEstimate(
            rank=rank,
            next=above,
            for_rank=estimate.target(target_rank, holder, rank=rank),
            for_percent=estimate.target(percent_rank, percent_holder, rank=rank),
            meta=question.meta(as_old_as(view, percent_view)),
        )


@dataclass(frozen=True, slots=True)
class _Estimate:
    """One result held against a board."""

    reading: Reading
    question: Question
    point: ScorePoint
    mode: RankMode

    async def window(self) -> Window:
        """What stands before the place that the result would take: the count, and the last two."""
        score, subscore = self.point.score, self.point.subscore
        ordering = self.question.ordering
        place = (
            ordering.result(score, subscore)
            if self.mode is RankMode.COMPETITION
            else ordering.behind(score, subscore)
        )
        return await self.question.entries.window(
            self.question.season.number,
            place,
            above=2,
            below=0,
            within=KeyRange(),
            fresh=self.question.fresh,
        )

    async def holder(self, rank: int | None) -> tuple[Standing | None, IndexView]:
        """The entry at an ordinal rank, None where nobody stands there or none is asked for, and
        what was read for this.
        """
        if not rank:
            return None, NOTHING
        rows = await self.reading.rows(self.question, offset=rank - 1, limit=1)
        standing = self.question.ordering.standing(*rows.entries[0]) if rows.entries else None
        return standing, rows.view

    async def next(self, window: Window) -> RankTarget | None:
        """The next better place."""
        if not window.above:
            return None
        rank = window.before
        if self.mode is RankMode.COMPETITION:
            rank = await self._shared_rank(window)
        holder = self.question.ordering.standing(*window.above[-1])
        return self._target(rank, holder, reached=False)

    async def _shared_rank(self, window: Window) -> int:
        """The competition rank of the entry before the place."""
        results = [key[:RESULT_BYTES] for key, _ in window.above]
        if len(set(results)) == len(results):
            return window.before
        counts = await self.reading.counts(self.question, results[-1:])
        # The two before the place are equals, whatever has moved since.
        return min(1 + counts.before(results[-1]), window.before - 1)

    def target(
        self, target: int | None, holder: Standing | None, *, rank: int
    ) -> RankTarget | None:
        """What it takes to reach a rank, if one is asked for; `rank` is what the result has."""
        return self._target(target, holder, reached=rank <= target) if target else None

    def _target(self, rank: int, holder: Standing | None, *, reached: bool) -> RankTarget:
        needed: int | None = None
        if reached:
            needed = self.point.score
        elif holder is not None:
            needed = self._score_needed(holder)
        return RankTarget(
            rank=rank,
            score=holder.score if holder else None,
            subscore=holder.subscore if holder else None,
            score_needed=needed,
            score_gap=0 if needed is None else abs(needed - self.point.score),
            reached=reached,
        )

    def _score_needed(self, holder: Standing) -> int | None:
        """The least improvement of the score that stands before the holder, or beside it where
        equal results share a rank: the holder's own score if the subscores decide so, else one
        step better. None where no score within the board's bounds does.
        """
        ordering = self.question.ordering
        own = ordering.result(holder.score, self.point.subscore)
        its = ordering.result(holder.score, holder.subscore)
        enough = own < its or (own == its and self.mode is RankMode.COMPETITION)
        step = 0 if enough else 1
        spec = self.question.board.spec
        low = INT64_MIN if spec.min_score is None else spec.min_score
        high = INT64_MAX if spec.max_score is None else spec.max_score
        # Bounds may be newer than the holder's score, and the holder may have moved since the
        # rank was counted: neither makes a worse score than the asked one an improvement.
        if spec.sort_order is SortOrder.DESCENDING:
            score = max(holder.score + step, low, self.point.score)
        else:
            score = min(holder.score - step, high, self.point.score)
        return score if low <= score <= high else None
