"""The entries of a list of users, such as somebody's friends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.ordering import ranks_of
from core.reading import Reading
from core.types import RankedEntry, ReadMeta, ReadOptions
from core.values import value


@value
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
        """The entries of up to 1,000 different users; a hidden one is missing, except the
        viewer's own, which gets the ranks it would have.

        Cost: two round trips to the index, one where no users are asked for. Raises BoardNotFound,
        SeasonNotFound, and Unavailable where the index cannot answer, or not as fresh as wanted.
        """
        question = await self.reading.question(board_id, options)
        ranks, view = await self.reading.rank(
            question, user_ids, options.rank_mode, owners=(options.viewer_user_id,)
        )
        best_first = sorted(ranks.values(), key=lambda ranked: ranked[0].key)
        hidden = [index for index, (entry, _) in enumerate(best_first) if entry.hidden]
        list_ranks = ranks_of(
            [entry.key for entry, _ in best_first],
            options.rank_mode,
            hidden=hidden[0] if hidden else None,
        )
        ordering = question.ordering
        standings = [ordering.standing(entry.key, entry.tail) for entry, _ in best_first]
        complete = await self.reading.complete(question, standings, options.view)
        return EntryList(
            entries=[
                RankedEntry(complete[standing.user_id], rank, list_rank, hidden=entry.hidden)
                for standing, (entry, rank), list_rank in zip(
                    standings, best_first, list_ranks, strict=True
                )
            ],
            missing_user_ids=[user_id for user_id in user_ids if user_id not in ranks],
            meta=question.meta(view),
        )
