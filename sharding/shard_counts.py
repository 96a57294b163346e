"""How a season's entries are spread over its shards: a hint, as a read last saw it.

Users are given to shards by their ids, so a board whose ids have a pattern may live in few of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from typing import Final

from cachetools import LRUCache

from core.types import SHARD_COUNT

_SEASONS_MAX: Final = 4096
_DEVIATIONS: Final = 4
"""So many standard deviations more than its mean: a shard has that one time in 30,000."""


class ShardCounts:
    """The counts of the seasons read last. Nothing that is told depends on whether they are true,
    only how often a read has to ask again.
    """

    def __init__(self) -> None:
        self._seasons: LRUCache[int, tuple[int, ...]] = LRUCache(_SEASONS_MAX)

    def note(self, season_number: int, counts: Sequence[int]) -> None:
        """Remembers what all the shards said, in their order."""
        self._seasons[season_number] = tuple(counts)

    def shares(self, season_number: int) -> Sequence[float]:
        """Each shard's part of the entries; equal parts where nothing is known."""
        counts = self._seasons.get(season_number, ())
        total = sum(counts)
        if total == 0:
            return (1 / SHARD_COUNT,) * SHARD_COUNT
        return [count / total for count in counts]

    def total(self, season_number: int) -> int | None:
        """All entries; None where nothing is known."""
        counts = self._seasons.get(season_number)
        return None if counts is None else sum(counts)

    def quota(self, season_number: int, wanted: int) -> int:
        """How many rows to ask of each shard so that the first `wanted` of the board are among
        them, nearly always, where entries stand independently of their shards.
        """
        share = max(self.shares(season_number))
        mean = wanted * share
        return min(wanted, ceil(mean + _DEVIATIONS * sqrt(mean * (1 - share)) + 2))
