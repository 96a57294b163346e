"""Where in a board an offset lies, out of a few keys of each shard: arithmetic, no I/O.

A shard tells its keys at some local ranks: its grid. That bounds, for any key at all, how many of
the shard's entries stand before it; summed over the shards it bounds the key's rank. So two keys
can be named between which the entries wanted lie, and either little enough is left there to be
fetched, or the next grid is laid between them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, sqrt
from typing import Final

from core.ports import KeyRange

_POINTS_MAX: Final = 64
"""Ranks that a grid asks of one shard: each is a lookup of some microseconds."""
_SPREAD_DEVIATIONS: Final = 3.5
"""How far from its mean a shard's part of the first entries is looked for."""
_STEP_SQUARE: Final = 32
"""A grid's step is the root of so many deviations. Half the step is twice the keys, and half the
rows after them; a key costs a node about three times as much as a row.
"""
_GUESS_DEVIATIONS: Final = 3.0
"""How far from its middle a key's rank is looked for; one in some hundreds is further out, which
costs two trips more.
"""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Local ranks of one shard to ask for: first, first + step and so on up to last."""

    first: int
    last: int
    step: int

    @classmethod
    def over(cls, first: int, last: int, step: int) -> Stretch:
        """The ranks from first to last, at least `step` apart, and more where they are many."""
        return cls(first, last, max(1, step, ceil((last - first) / _POINTS_MAX)))


@dataclass(frozen=True, slots=True)
class ShardGrid:
    """Keys of a shard, ascending, the local rank of each, and how many entries it has."""

    keys: Sequence[bytes]
    ranks: Sequence[int]
    count: int

    def before(self, key: bytes) -> tuple[int, int]:
        """The least and the greatest number of entries that can stand before a key."""
        place = bisect_left(self.keys, key)
        low = self.ranks[place - 1] + 1 if place else 0
        if place == len(self.keys):
            return low, self.count
        high = self.ranks[place]
        return (high if self.keys[place] == key else low), high


@dataclass(frozen=True, slots=True)
class Rank:
    """How many entries of the board stand before a key: certainly from low to high, and by all
    likelihood from likely_low to likely_high.
    """

    low: int
    high: int
    likely_low: int
    likely_high: int


@dataclass(frozen=True, slots=True)
class Bracket:
    """Keys between which the entries wanted lie, and about how many entries lie there."""

    within: KeyRange
    rows: int


@dataclass(frozen=True, slots=True)
class Grid:
    """The grids of all shards, each of one instant."""

    shards: Sequence[ShardGrid]
    total: int = field(init=False)
    _keys: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", sum(shard.count for shard in self.shards))
        keys = sorted(key for shard in self.shards for key in shard.keys)
        object.__setattr__(self, "_keys", keys)

    def rank(self, key: bytes) -> Rank:
        """What is known of a key's rank.

        Between two of its grid keys a shard's part is as likely one number as another, and the
        shards are independent: so the sum is far from its middle only rarely.
        """
        low, high, variance = 0, 0, 0
        for shard in self.shards:
            least, most = shard.before(key)
            low += least
            high += most
            variance += (most - least) ** 2
        middle = (low + high) // 2
        slack = ceil(_GUESS_DEVIATIONS * sqrt(variance / 12))
        return Rank(low, high, max(low, middle - slack), min(high, middle + 1 + slack))

    def likely(self, offset: int, end: int) -> Bracket:
        """Where the entries number `offset` to `end` - 1 lie by all likelihood."""
        first = bisect_right(self._keys, offset, key=lambda key: self.rank(key).likely_high)
        last = bisect_left(self._keys, end, key=lambda key: self.rank(key).likely_low)
        return self._bracket(first, last)

    def certain(self, offset: int, end: int) -> Bracket:
        """Where they certainly lie, as long as no entry moves."""
        first = bisect_right(self._keys, offset, key=lambda key: self.rank(key).high)
        last = bisect_left(self._keys, end, key=lambda key: self.rank(key).low)
        return self._bracket(first, last)

    def between(self, within: KeyRange) -> Sequence[Stretch]:
        """The next, finer grid: each shard's ranks between two keys."""
        stretches = []
        for shard in self.shards:
            # With the last key before the bracket: without it the first gap would seem wide.
            first = max(0, shard.before(within.low)[0] - 1) if within.low else 0
            last = shard.before(within.high)[1] if within.high else shard.count
            stretches.append(Stretch.over(first, last, 1))
        return stretches

    def _bracket(self, first: int, last: int) -> Bracket:
        """From the key before place `first` of all the keys to that at place `last`."""
        low, high, start, stop = b"", b"", 0, self.total
        if first > 0:
            low = self._keys[first - 1]
            start = self.rank(low).likely_low
        if last < len(self._keys):
            high = self._keys[last]
            stop = self.rank(high).likely_high
        return Bracket(KeyRange(low, high), stop - start)


def first_stretches(
    offset: int, limit: int, *, shares: Sequence[float], total: int | None
) -> Sequence[Stretch]:
    """Where each shard's part of the entries from `offset` on is to be looked for, if the shards
    have these parts of the entries, and the entries stand independently of their shards.

    Of the first entries of a board a shard then has its share, give or take a hypergeometric
    deviation.
    """
    left = 1.0 if not total else max(0.0, 1 - offset / total)
    stretches = []
    for share in shares:
        deviation = sqrt(offset * left * share * (1 - share))
        step = max(1, round(min(2 * deviation, sqrt(_STEP_SQUARE * deviation))))
        # A step more on either side, for the keys that the entries wanted are to lie between.
        reach = _SPREAD_DEVIATIONS * deviation + step
        first = max(0, int(offset * share - reach))
        last = ceil((offset + limit) * share + reach)
        stretches.append(Stretch.over(first, last, step))
    return stretches
