"""One user's entry with its exact rank."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import EntryNotFound
from core.reading import Reading
from core.types import RankedEntry, ReadMeta, ReadOptions


@dataclass(frozen=True, slots=True)
class GetEntry:
    """Answers GetEntry."""

    reading: Reading

    async def __call__(
        self, board_id: str, user_id: int, options: ReadOptions, *, hint: bytes | None = None
    ) -> tuple[RankedEntry, ReadMeta]:
        """The user's entry; a hidden one only where the viewer is its user. `hint`: probably its
        key.

        Cost: two round trips to the index, one where `hint` is its key. Raises BoardNotFound,
        SeasonNotFound, EntryNotFound, and Unavailable where the index cannot answer, or not as
        fresh as it is wanted.
        """
        question = await self.reading.question(board_id, options)
        ranks, view = await self.reading.rank(
            question,
            [user_id],
            options.rank_mode,
            owners=(options.viewer_user_id,),
            hints={user_id: hint} if hint else None,
        )
        # Before anything is told: that there is no entry must not be too old either.
        meta = question.meta(view)
        if user_id not in ranks:
            raise EntryNotFound
        entry, rank = ranks[user_id]
        standing = question.ordering.standing(entry.key, entry.tail)
        complete = await self.reading.complete(question, [standing], options.view)
        ranked = RankedEntry(complete[user_id], rank, hidden=entry.hidden)
        return ranked, meta
