"""A season at one moment, in little room: its first entries, and about where all others stand.

Of each shard it has up to 257 keys at equal distances with their ranks in the shard, so that what
stands before any key is known within a step. Where entries were written since, each of them can
have moved any count by one.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final

from core.ordering import KEY_BYTES
from core.types import ALL_SHARDS, SHARD_COUNT, shard_of

STEPS: Final = 256
"""Parts into which a shard is cut."""
TOP_ROWS_MAX: Final = 1_000
ROW_BYTES: Final = KEY_BYTES + 6
"""A key with the last six bytes of its index value."""
_MAGIC: Final = b"SNP2"
_HEAD = struct.Struct(">4sI")
LEDGER_BYTES: Final = 8
_SEASON = struct.Struct(f">IQQQQ{LEDGER_BYTES}sQH?")
_SKETCH = struct.Struct(">IH")

Bounds = tuple[int, int]
"""No less than the first, no more than the second."""


class SnapshotBroken(Exception):
    """These bytes are not a whole snapshot."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """One shard: how many entries it has, and the keys, end to end, of those with some ranks,
    counted from 0, among them the first and the last one's.
    """

    count: int
    ranks: Sequence[int]
    keys: bytes

    def bounds(self, cutoff: bytes) -> Bounds:
        """How many entries have a smaller key. A cutoff is a key or the beginning of one."""
        place = bisect_left(range(len(self.ranks)), cutoff, key=self.key)
        least = self.ranks[place - 1] + 1 if place else 0
        return least, self.ranks[place] if place < len(self.ranks) else self.count

    def key_at(self, rank: int) -> bytes | None:
        """The first key with that rank or a higher one that is known; None: none is."""
        place = bisect_left(self.ranks, rank)
        return self.key(place) if place < len(self.ranks) else None

    def key(self, place: int) -> bytes:
        """The key with the rank at that place."""
        return self.keys[place * KEY_BYTES : (place + 1) * KEY_BYTES]


@dataclass(frozen=True, slots=True)
class Top:
    """The first entries of all shards in rank order, as (key, tail) pairs; `whole`: there are no
    others.
    """

    rows: Sequence[tuple[bytes, bytes]]
    whole: bool
    places: Sequence[Sequence[int]] = field(init=False)
    """For each shard the places of its entries among the rows."""

    def __post_init__(self) -> None:
        places: list[list[int]] = [[] for _ in ALL_SHARDS]
        for place, (key, _) in enumerate(self.rows):
            places[shard_of(user_of(key))].append(place)
        object.__setattr__(self, "places", places)

    def reaches(self, cutoff: bytes) -> bool:
        """Whether all entries with a smaller key are among the rows."""
        return self.whole or not cutoff or bool(self.rows and cutoff <= self.rows[-1][0])

    def before(self, cutoff: bytes, shard: int) -> int:
        """How many rows of a shard have a smaller key."""
        return bisect_left(self.places[shard], self.place(cutoff))

    def place(self, cutoff: bytes) -> int:
        """How many rows have a smaller key."""
        return bisect_left(self.rows, cutoff, key=itemgetter(0))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A season as of `made_ms` (wall clock); what was committed after `read_ms` is not in it.

    Every transaction of `ledger`, 8 bytes, below `horizon` is in it; 0: unknown. So is all that was
    committed before `caught_up_ms`; 0: unknown.
    """

    season_number: int
    made_ms: int
    read_ms: int
    caught_up_ms: int
    horizon: int
    ledger: bytes
    epoch: int
    sketches: Sequence[Sketch]
    top: Top

    def entry_count(self, shards: Iterable[int] = ALL_SHARDS) -> int:
        """The entries of some shards."""
        return sum(self.shard_count(shard) for shard in shards)

    def shard_count(self, shard: int) -> int:
        """The entries of a shard."""
        # Both parts are not quite of one instant, so a board that fits is told by one of them.
        return len(self.top.places[shard]) if self.top.whole else self.sketches[shard].count

    def bounds(self, cutoff: bytes, shard: int) -> Bounds:
        """How many entries of a shard have a smaller key."""
        if self.top.reaches(cutoff):
            exact = self.top.before(cutoff, shard)
            return exact, exact
        return self.sketches[shard].bounds(cutoff)

    def key_near(self, offset: int) -> tuple[bytes, int]:
        """A key, and about how many entries stand before it: no more than `offset`, and fewer by
        hardly more than the 4,096th part of all. b"" where no key is known to be so far up.
        """
        keys = sorted(
            sketch.key(place) for sketch in self.sketches for place in range(len(sketch.ranks))
        )
        place = bisect_right(keys, offset, key=self._about)
        return (keys[place - 1], self._about(keys[place - 1])) if place else (b"", 0)

    def _about(self, key: bytes) -> int:
        return sum(sum(self.bounds(key, shard)) // 2 for shard in ALL_SHARDS)


@dataclass(frozen=True, slots=True)
class RoughCounts:
    """What stands before some cutoffs in some shards: the middle of what it can be, and how far
    that can be off in the sum over the shards: too high by `fewer`, too low by `more` at most.
    """

    shards: Sequence[Sequence[int]]
    fewer: int
    more: int

    @classmethod
    def of(cls, bounds: Sequence[Sequence[Bounds]]) -> RoughCounts:
        """From the bounds of each shard, for each cutoff."""
        middles = [[(low + high) // 2 for low, high in shard] for shard in bounds]
        cutoffs = range(len(bounds[0]) if bounds else 0)
        sums = [
            (
                sum(shard[cutoff][0] for shard in bounds),
                sum(shard[cutoff] for shard in middles),
                sum(shard[cutoff][1] for shard in bounds),
            )
            for cutoff in cutoffs
        ]
        return cls(
            middles,
            fewer=max((middle - low for low, middle, _ in sums), default=0),
            more=max((high - middle for _, middle, high in sums), default=0),
        )

    def sum(self, cutoff: int = 0) -> int:
        """What stands before a cutoff in all these shards together."""
        return sum(shard[cutoff] for shard in self.shards)


def user_of(key: bytes) -> int:
    """The user whose entry has a key."""
    return int.from_bytes(key[-8:], "big")


def widened(bounds: Bounds, writes: int) -> Bounds:
    """The bounds of a count after so many entries of its shard were written."""
    low, high = bounds
    return max(0, low - writes), high + writes


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The snapshot as bytes; some 170 KB for a board of any size above 5,000."""
    parts = [
        _SEASON.pack(
            snapshot.season_number,
            snapshot.made_ms,
            snapshot.read_ms,
            snapshot.caught_up_ms,
            snapshot.horizon,
            snapshot.ledger,
            snapshot.epoch,
            len(snapshot.top.rows),
            snapshot.top.whole,
        )
    ]
    for sketch in snapshot.sketches:
        parts.append(_SKETCH.pack(sketch.count, len(sketch.ranks)))
        parts.append(struct.pack(f">{len(sketch.ranks)}I", *sketch.ranks))
        parts.append(sketch.keys)
    parts += [key + tail for key, tail in snapshot.top.rows]
    body = b"".join(parts)
    return _HEAD.pack(_MAGIC, zlib.crc32(body)) + body


def decode_snapshot(data: bytes) -> Snapshot:
    """The snapshot behind bytes. Raises SnapshotBroken."""
    if len(data) < _HEAD.size + _SEASON.size:
        raise SnapshotBroken
    magic, checksum = _HEAD.unpack_from(data)
    if magic != _MAGIC or checksum != zlib.crc32(memoryview(data)[_HEAD.size :]):
        raise SnapshotBroken
    number, made_ms, read_ms, caught_up_ms, horizon, ledger, epoch, top_count, whole = (
        _SEASON.unpack_from(data, _HEAD.size)
    )
    at = _HEAD.size + _SEASON.size
    sketches = []
    for _ in range(SHARD_COUNT):
        count, steps = _SKETCH.unpack_from(data, at)
        at += _SKETCH.size
        ranks = struct.unpack_from(f">{steps}I", data, at)
        at += 4 * steps
        sketches.append(Sketch(count, ranks, data[at : at + steps * KEY_BYTES]))
        at += steps * KEY_BYTES
    top = Top(rows_of(data[at : at + top_count * ROW_BYTES]), whole)
    return Snapshot(number, made_ms, read_ms, caught_up_ms, horizon, ledger, epoch, sketches, top)


def rows_of(blob: bytes) -> Sequence[tuple[bytes, bytes]]:
    """The (key, tail) pairs of rows end to end."""
    return [
        (blob[at : at + KEY_BYTES], blob[at + KEY_BYTES : at + ROW_BYTES])
        for at in range(0, len(blob), ROW_BYTES)
    ]
