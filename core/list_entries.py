"""A page of a board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import InvalidInput
from core.ordering import RESULT_BYTES
from core.ports import PageSlice
from core.reading import Question, Reading
from core.types import SHARD_COUNT, RankedEntry, RankMode, ReadMeta, ReadOptions

START_RANK_MAX: Final = 1_000
"""Every shard sends all entries up to the page: cheap so far down, and no further."""


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Entries best first; `next_page_token` empty at the end of the board."""

    entries: Sequence[RankedEntry]
    next_page_token: str
    meta: ReadMeta


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
        options: ReadOptions,
    ) -> EntryPage:
        """Up to `page_size` entries from the best on, from a rank on, or behind a token.

        Cost: one round trip to the index, one more for competition ranks in mid-board.
        Raises BoardNotFound, SeasonNotFound, InvalidInput for a start_rank past 1,000,
        PageTokenInvalid, and Unavailable where the index cannot answer.
        """
        if start_rank is not None and start_rank > START_RANK_MAX:
            raise InvalidInput("start_rank", f"must not be greater than {START_RANK_MAX}")
        question = await self.reading.question(board_id, options)
        season_number = question.season.number
        after = (
            self.reading.signer.entries_after(page_token, season_number=season_number)
            if page_token
            else b""
        )
        # One more than asked for: whether there is one decides about the next page's token.
        page = await self.reading.ask(
            question,
            lambda: self.reading.index.page(
                season_number,
                after=after,
                offset=start_rank - 1 if start_rank else 0,
                limit=page_size + 1,
                fresh=question.fresh,
            ),
        )
        shown = page.entries[:page_size]
        standings = [question.ordering.standing(key, tail) for key, tail in shown]
        ranks = await self._ranks(question, page, options.rank_mode)
        complete = await self.reading.complete(question, standings, options.view)
        more = len(page.entries) > page_size
        return EntryPage(
            entries=[
                RankedEntry(complete[standing.user_id], rank)
                for standing, rank in zip(standings, ranks, strict=False)
            ],
            next_page_token=(
                self.reading.signer.entries_page(season_number=season_number, after=shown[-1][0])
                if more
                else ""
            ),
            meta=question.meta(page.view),
        )

    async def _ranks(self, question: Question, page: PageSlice, mode: RankMode) -> Sequence[int]:
        """The ranks of a page's entries, in order."""
        ordinal = range(page.before + 1, page.before + 1 + len(page.entries))
        if mode is RankMode.ORDINAL or not page.entries:
            return ordinal
        rank = await self._first_of_result(question, page)
        ranks: list[int] = []
        previous = page.entries[0][0][:RESULT_BYTES]
        for position, (key, _) in zip(ordinal, page.entries, strict=True):
            if key[:RESULT_BYTES] != previous:
                previous, rank = key[:RESULT_BYTES], position
            ranks.append(rank)
        return ranks

    async def _first_of_result(self, question: Question, page: PageSlice) -> int:
        """The competition rank of the first entry: its equals may stand on earlier pages."""
        if page.before == 0:
            return 1
        counts, _ = await self.reading.ask(
            question,
            lambda: self.reading.index.count_before(
                question.season.number,
                [page.entries[0][0][:RESULT_BYTES]],
                shards=range(SHARD_COUNT),
                fresh=question.fresh,
            ),
        )
        return 1 + sum(shard_counts[0] for shard_counts in counts)
