"""How a season's entries are spread over its shards: a hint, as a read last saw it.

Users are given to shards by their ids, so a board whose ids have a pattern may live in few of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, exp, lgamma, log, log1p
from typing import Final

from cachetools import LRUCache

from core.types import SHARD_COUNT

_SEASONS_MAX: Final = 4096
_QUOTAS_MAX: Final = 16_384
_STEPS: Final = 256
"""Of the fullest shard's share, rounded up: what is found for one season holds for most."""
_SHORT: Final = 1 / 250
"""So many of the answers have to be asked for once more, because a shard has too many of it. Each
row more that every shard is asked for is paid by all of them."""


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
        fullest = max(self.shares(season_number))
        return _quota(wanted, ceil(fullest * _STEPS) / _STEPS)


@lru_cache(_QUOTAS_MAX)
def _quota(wanted: int, share: float) -> int:
    """The least number of rows that a shard with this share of the entries has to be asked for. It
    may have more of the answer than it sent where as many as it sent are among all but the last.
    """
    if share >= 1:
        return wanted
    # The binomial distribution from its end on: of `wanted` - 1 entries as many, or more, are here.
    others, many = wanted - 1, 0.0
    for count in range(others, 0, -1):
        many += exp(
            _log_choose(others, count) + count * log(share) + (others - count) * log1p(-share)
        )
        if many * SHARD_COUNT > _SHORT:
            return count + 1
    return min(wanted, 1)


def _log_choose(total: int, count: int) -> float:
    return lgamma(total + 1) - lgamma(count + 1) - lgamma(total - count + 1)
