"""The entries around a user, or around the place that a result would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.errors import EntryNotFound
from core.ports import IndexedEntry, KeyRange, Window
from core.reading import Question, Reading, Run
from core.types import RankedEntry, ReadMeta, ReadOptions, ScorePoint
from core.values import value


@value
class EntryWindow:
    """Entries best first."""

    entries: Sequence[RankedEntry]
    meta: ReadMeta


@dataclass(frozen=True, slots=True)
class ListEntriesAround:
    """Answers ListEntriesAround."""

    reading: Reading

    async def __call__(
        self,
        board_id: str,
        center: int | ScorePoint,
        *,
        above: int,
        below: int,
        options: ReadOptions,
    ) -> EntryWindow:
        """`above` entries before a place and `below` after it, each 0 to 100, and the user's own
        between them; what is missing at one end of the board comes from the other side.

        The place of a result is after all entries with it. Cost in round trips to the index: two
        around a user, one around a result; one more where a shard holds very many of the entries,
        where the board ends within the window, and for competition ranks where equals of the first
        entry stand before it; one in PostgreSQL for full entries. Raises BoardNotFound,
        SeasonNotFound, EntryNotFound, also for a hidden entry of anybody but the viewer, and
        Unavailable where the index cannot answer, or not as fresh as wanted.
        """
        question = await self.reading.question(board_id, options)
        own, window = await self._around(question, center, above, below)
        if len(window.above) < above or len(window.below) < below:
            # An end of the board is near: the other side may have to give everything.
            own, window = await self._further(question, center, own, above + below)
        if own is not None and own.hidden and center != options.viewer_user_id:
            raise EntryNotFound
        run = _run(own, window, above=above, below=below)
        return EntryWindow(*await self.reading.tell(question, run, options))

    async def _around(
        self, question: Question, center: int | ScorePoint, above: int, below: int
    ) -> tuple[IndexedEntry | None, Window]:
        # One more shows whether the first has equals.
        if isinstance(center, ScorePoint):
            return None, await self._around_point(question, center, above + 1, below)
        return await self._around_user(question, center, above + 1, below)

    async def _further(
        self, question: Question, center: int | ScorePoint, own: IndexedEntry | None, reach: int
    ) -> tuple[IndexedEntry | None, Window]:
        """The same with so many entries on both sides."""
        if own is not None:
            # Its key is known by now, which saves a round trip if it still stands there.
            window = await question.entries.window(
                question.season.number,
                own.key,
                above=reach + 1,
                below=reach + 1,
                within=KeyRange(),
                fresh=question.fresh,
            )
            others = [row for row in window.below if row[0] != own.key]
            if own.hidden or len(others) < len(window.below):
                return own, replace(window, below=others[:reach])
        return await self._around(question, center, reach, reach)

    async def _around_point(
        self, question: Question, point: ScorePoint, above: int, below: int
    ) -> Window:
        return await question.entries.window(
            question.season.number,
            question.ordering.behind(point.score, point.subscore),
            above=above,
            below=below,
            within=KeyRange(),
            fresh=question.fresh,
        )

    async def _around_user(
        self, question: Question, user_id: int, above: int, below: int
    ) -> tuple[IndexedEntry, Window]:
        found = await question.entries.window_of(
            question.season.number, user_id, above=above, below=below, fresh=question.fresh
        )
        if found is None:
            # That there is no entry must not be older than the caller wants it either.
            question.meta((await self.reading.counts(question, ())).view)
            raise EntryNotFound
        return found


def _run(own: IndexedEntry | None, window: Window, *, above: int, below: int) -> Run:
    """The entries wanted of a window that reaches at least `above` and one more to the better side
    and `below` to the other one; `above` + `below` where the board ends on one side.
    """
    reach = above + below
    above_count = min(len(window.above), max(above, reach - len(window.below)))
    begin = len(window.above) - above_count
    entries = [*window.above[begin:]]
    if own is not None:
        entries.append((own.key, own.tail))
    entries += window.below[: reach - above_count]
    return Run(
        before=window.before - above_count,
        entries=entries,
        view=window.view,
        previous=window.above[begin - 1][0] if begin else b"",
        hidden=above_count if own is not None and own.hidden else None,
    )
