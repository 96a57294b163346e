"""Which result stands at a percent of a board, and at which percent a result stands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from core.index_views import as_old_as
from core.ordering import END
from core.reading import Question, Reading
from core.types import ReadMeta, ReadOptions, ScorePoint


@dataclass(frozen=True, slots=True)
class Percentile:
    """The best `rank` entries, which are `percent` of all; `point` None: the board is empty."""

    percent: float
    rank: int
    point: ScorePoint | None
    meta: ReadMeta


def rank_at(percent: float, entry_count: int) -> int:
    """How many entries the best so many percent of them are: above 0 to 100 percent, rounded up.

    Exact for the number that was written: 7 % of 100 are 7, although the float is a little more.
    """
    return math.ceil(Fraction(repr(percent)) * entry_count / 100)


@dataclass(frozen=True, slots=True)
class GetPercentile:
    """Answers GetPercentile."""

    reading: Reading

    async def __call__(
        self, board_id: str, point: float | ScorePoint, options: ReadOptions
    ) -> Percentile:
        """The result at a percent, above 0 to 100, or the percent of a result: how many entries
        are at least as good.

        Cost in round trips to the index: one for a result; for a percent that and those of
        `EntryReads.page_at`. Raises BoardNotFound, SeasonNotFound, and Unavailable where the
        index cannot answer, or not as fresh as wanted.
        """
        question = await self.reading.question(board_id, options)
        if isinstance(point, ScorePoint):
            return await self._percent_of(question, point)
        return await self._point_at(question, point)

    async def _percent_of(self, question: Question, point: ScorePoint) -> Percentile:
        behind = question.ordering.behind(point.score, point.subscore)
        # With the end of the board, so that the bounds of both numbers are told.
        counts = await self.reading.counts(question, [behind, END])
        rank, entry_count = counts.before(behind), counts.before(END)
        percent = 100 * rank / entry_count if entry_count else 0.0
        return Percentile(percent, rank, point, question.meta(counts.view))

    async def _point_at(self, question: Question, percent: float) -> Percentile:
        counts = await self.reading.counts(question, [END])
        view, entry_count = counts.view, counts.before(END)
        while entry_count:
            rank = rank_at(percent, entry_count)
            # Before it is read: that there is an entry must not be too old either.
            question.meta(view)
            rows = await self.reading.rows(question, offset=rank - 1, limit=1)
            meta = question.meta(as_old_as(rows.view, view))
            if rows.entries:
                standing = question.ordering.standing(*rows.entries[0])
                point = ScorePoint(standing.score, standing.subscore)
                return Percentile(percent, rank, point, meta)
            # Entries left in between, so that nobody stands there any more.
            view, entry_count = rows.view, min(rows.view.entry_count, entry_count - 1)
        return Percentile(percent, 0, None, question.meta(view))
