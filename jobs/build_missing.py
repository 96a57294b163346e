"""Builds what the index does not hold: after a start on an empty Redis, or a board made while it
was away.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from core.build_index import BuildIndex
from core.ports import IndexKeeping, LedgerHistory

_LEFT_ALONE_S: Final = 3.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuildMissing:
    """Builds every (season, shard) that has no guard, or a broken one."""

    history: LedgerHistory
    keeping: IndexKeeping
    build: BuildIndex

    async def __call__(self) -> None:
        """Raises Unavailable; what could be built is built all the same."""
        # Whoever made a board just now is building its season: two builders would only take the
        # copy out of each other's hands.
        seasons = await self.history.season_numbers(older_than_s=_LEFT_ALONE_S)
        missing = await self.keeping.unbuilt(seasons)
        if missing:
            _log.info("building the index", extra={"season_shards": len(missing)})
            await self.build.pairs(missing)
