"""A page of a board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.ordering import END
from core.ports import KeyRange, Window
from core.reading import Question, Reading, Run
from core.tokens import Turn, Walk
from core.types import RankedEntry, ReadMeta, ReadOptions, ScoreRange
from core.values import value


@value
class EntryPage:
    """Entries best first; a token is empty where there are no more entries on that side."""

    entries: Sequence[RankedEntry]
    next_page_token: str
    previous_page_token: str
    meta: ReadMeta


@value
class _Found:
    """What an index said of a page: its entries, and whether more of the walk stand before and
    after it. `point` is where it begins if nothing is in it.
    """

    run: Run
    earlier: bool
    later: bool
    point: bytes


@dataclass(frozen=True, slots=True)
class ListEntries:
    """Answers ListEntries."""

    reading: Reading

    async def __call__(
        self,
        board_id: str,
        *,
        page_size: int,
        page_token: str,
        start_rank: int | None,
        scores: ScoreRange,
        options: ReadOptions,
    ) -> EntryPage:
        """Up to `page_size` entries within a range of scores: from the best on, from a rank of the
        board on, or where a token says, which is the page after or the page before.

        A walk never repeats or skips an entry that did not move. Cost in round trips to the
        index: one from the top or by token; for a start_rank those of `EntryReads.page_at`, and one
        more with a range. One more for competition ranks where equals of the first entry
        stand before it, and in PostgreSQL for full entries. Raises BoardNotFound, SeasonNotFound,
        PageTokenInvalid, and Unavailable where the index cannot answer, or not as fresh as wanted.
        """
        question = await self.reading.question(board_id, options)
        walk = Walk(question.season.number, question.ordering.key_range(scores))
        if page_token:
            turn = self.reading.signer.entries_turn(page_token, walk)
            found = await self._page(question, walk, turn, page_size)
        elif start_rank is None or start_rank == 1:
            found = await self._page(question, walk, Turn(walk.within.low), page_size)
        elif walk.within == KeyRange():
            found = await self._page_at(question, start_rank, page_size)
        else:
            turn = Turn(await self._point_at(question, start_rank, walk.within))
            found = await self._page(question, walk, turn, page_size)
        entries, meta = await self.reading.tell(question, found.run, options)
        return EntryPage(
            entries=entries,
            next_page_token=self._next(walk, found),
            previous_page_token=self._previous(walk, found),
            meta=meta,
        )

    async def _page(self, question: Question, walk: Walk, turn: Turn, page_size: int) -> _Found:
        """The page at a point. One entry more than is shown, on either side, tells whether there
        are others, and that nearest to the first one whether it has equals.
        """
        above, below = (page_size + 1, 1) if turn.backward else (1, page_size + 1)
        window = await question.entries.window(
            walk.season_number,
            turn.point,
            above=above,
            below=below,
            within=walk.within,
            fresh=question.fresh,
        )
        return (
            _backward(window, turn, page_size)
            if turn.backward
            else _forward(window, turn, page_size)
        )

    async def _page_at(self, question: Question, start_rank: int, page_size: int) -> _Found:
        """The page from a rank past the first on, together with the entry before it."""
        rows = await self.reading.rows(question, offset=start_rank - 2, limit=page_size + 2)
        shown = rows.entries[1 : page_size + 1]
        return _Found(
            run=Run(
                rows.before + 1, shown, rows.view, previous=rows.entries[0][0] if shown else b""
            ),
            earlier=rows.view.entry_count > 0,
            later=len(rows.entries) > page_size + 1,
            point=END,
        )

    async def _point_at(self, question: Question, start_rank: int, within: KeyRange) -> bytes:
        """The key at a rank, or where the range begins if that is later."""
        rows = await self.reading.rows(question, offset=start_rank - 1, limit=1)
        key = rows.entries[0][0] if rows.entries else END
        # What stands behind the range cannot be the point: before it stand others of the board.
        return max(within.low, min(key, within.high or END))

    def _next(self, walk: Walk, found: _Found) -> str:
        if not found.later:
            return ""
        shown = found.run.entries
        point = shown[-1][0] + b"\0" if shown else found.point
        return self.reading.signer.entries_page(Turn(point), walk)

    def _previous(self, walk: Walk, found: _Found) -> str:
        if not found.earlier:
            return ""
        shown = found.run.entries
        point = shown[0][0] if shown else found.point
        return self.reading.signer.entries_page(Turn(point, backward=True), walk)


def _forward(window: Window, turn: Turn, page_size: int) -> _Found:
    return _Found(
        run=Run(
            window.before,
            window.below[:page_size],
            window.view,
            previous=window.above[-1][0] if window.above else b"",
        ),
        earlier=bool(window.above),
        later=len(window.below) > page_size,
        point=turn.point,
    )


def _backward(window: Window, turn: Turn, page_size: int) -> _Found:
    shown = window.above[-page_size:]
    earlier = window.above[:-page_size]
    return _Found(
        run=Run(
            window.before - len(shown),
            shown,
            window.view,
            previous=earlier[-1][0] if earlier else b"",
        ),
        earlier=bool(earlier),
        later=bool(window.below),
        point=turn.point,
    )
