"""Builds what the index does not hold: after a start on an empty Redis, or a board made while it
was away.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.build_index import BuildIndex
from core.ports import IndexKeeping, LedgerHistory

_LEFT_ALONE_S: Final = 3.0
_SEASONS_MAX: Final = 1_000
"""Seasons that a run looks at in every shard: a few hundredths of a second of each Redis node."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class BuildMissing:
    """Builds every (season, shard) that has no guard, or a broken one.

    A shard that lost its mark lost all seasons, and they are all looked at at once. A season that
    was lost alone is found when its turn comes: in the next run, unless there are thousands.
    """

    history: LedgerHistory
    keeping: IndexKeeping
    build: BuildIndex
    turn: int = 0

    async def __call__(self) -> None:
        """Raises Unavailable; what could be built is built all the same."""
        # Whoever made a board just now is building its season: two builders would only take the
        # copy out of each other's hands.
        seasons = await self.history.season_numbers(older_than_s=_LEFT_ALONE_S)
        statuses = await self.keeping.shards([])
        if not any(status.reachable and status.checkpoint is None for status in statuses):
            seasons = self._next(seasons)
        missing = await self.keeping.unbuilt(seasons)
        if missing:
            _log.info("building the index", extra={"season_shards": len(missing)})
            await self.build.pairs(missing)

    def _next(self, seasons: Sequence[int]) -> Sequence[int]:
        """The seasons whose turn it is."""
        start = self.turn if self.turn < len(seasons) else 0
        self.turn = start + _SEASONS_MAX
        return seasons[start : self.turn]
