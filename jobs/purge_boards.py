"""Removes what deleted boards leave behind."""

from __future__ import annotations

from dataclasses import dataclass

from core.ports import IndexKeeping, Retention
from core.types import SHARD_COUNT


@dataclass(frozen=True, slots=True)
class PurgeBoards:
    """Deletes the entries of deleted boards, and their index where that was missed."""

    retention: Retention
    keeping: IndexKeeping

    async def __call__(self) -> None:
        """Raises Unavailable; the next run goes on where this one ended."""
        for season_number in await self.retention.deleted_seasons():
            await self.keeping.drop(season_number)
            for shard in range(SHARD_COUNT):
                while not await self.retention.purge(season_number, shard):
                    pass
            await self.retention.mark_purged(season_number)
