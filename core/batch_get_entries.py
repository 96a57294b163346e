"""The entries of a list of users, such as somebody's friends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.reading import Reading, cutoff_bytes_of
from core.types import RankedEntry, RankMode, ReadMeta, ReadOptions


@dataclass(frozen=True, slots=True)
class EntryList:
    """Entries best first with their ranks among the list, and the users without one, as asked."""

    entries: Sequence[RankedEntry]
    missing_user_ids: Sequence[int]
    meta: ReadMeta


@dataclass(frozen=True, slots=True)
class BatchGetEntries:
    """Answers BatchGetEntries."""

    reading: Reading

    async def __call__(
        self, board_id: str, user_ids: Sequence[int], options: ReadOptions
    ) -> EntryList:
        """The entries of 1 to 1,000 different users. Cost: two round trips to the index.

        Raises BoardNotFound, SeasonNotFound, and Unavailable where the index cannot answer.
        """
        question = await self.reading.question(board_id, options)
        ranks, view = await self.reading.rank(question, user_ids, options.rank_mode)
        best_first = sorted(ranks.values(), key=lambda ranked: ranked[0].key)
        standings = [question.ordering.standing(entry.key, entry.tail) for entry, _ in best_first]
        complete = await self.reading.complete(question, standings, options.view)
        list_ranks = _list_ranks([entry.key for entry, _ in best_first], options.rank_mode)
        return EntryList(
            entries=[
                RankedEntry(complete[standing.user_id], rank, list_rank)
                for standing, (_, rank), list_rank in zip(
                    standings, best_first, list_ranks, strict=True
                )
            ],
            missing_user_ids=[user_id for user_id in user_ids if user_id not in ranks],
            meta=question.meta(view),
        )


def _list_ranks(keys: Sequence[bytes], mode: RankMode) -> Sequence[int]:
    """The 1-based ranks of sorted keys among themselves."""
    cutoff_bytes = cutoff_bytes_of(mode)
    ranks: list[int] = []
    for position, key in enumerate(keys):
        tied = position > 0 and keys[position - 1][:cutoff_bytes] == key[:cutoff_bytes]
        ranks.append(ranks[-1] if tied else position + 1)
    return ranks
