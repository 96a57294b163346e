"""What stands before a cutoff: counted where that is near, else told from a snapshot."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from core.ordering import KEY_BYTES, PREFIX_BYTES
from core.snapshots import Bounds, Snapshot, widened
from core.types import INT64_MAX

Place = tuple[bytes, int]
"""Rank key and user: entries stand before it whose pair is smaller."""

BEHIND_ALL: Final[Place] = (b"\xff" * (PREFIX_BYTES + 1), 0)


def place_of(cutoff: bytes) -> Place:
    """The place of a key, of the beginning of one, or right behind one."""
    prefix, rest = cutoff[:PREFIX_BYTES], cutoff[PREFIX_BYTES:]
    user = int.from_bytes(rest[:8].ljust(8, b"\0"), "big") + (len(rest) > KEY_BYTES - PREFIX_BYTES)
    if user > INT64_MAX:
        return prefix + b"\0", 0
    return prefix, user


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a snapshot says after so many entries of each shard were written, by `as_of_ms`. It
    holds for states of `least_ms` and later.
    """

    snapshot: Snapshot
    writes: Mapping[int, int]
    as_of_ms: int
    least_ms: int = 0

    def before(self, cutoff: bytes, shard: int) -> Bounds:
        """What stands before a cutoff."""
        return widened(self.snapshot.bounds(cutoff, shard), self.writes.get(shard, 0))

    def count(self, shard: int) -> Bounds:
        """The entries of a shard."""
        count = self.snapshot.shard_count(shard)
        return widened((count, count), self.writes.get(shard, 0))

    def near(self, shard: int, limit: int) -> bytes | None:
        """The last key before which there may be fewer than `limit` entries; None: any."""
        writes = self.writes.get(shard, 0)
        return self.snapshot.sketches[shard].key_at(max(0, limit - 1 + writes))


@dataclass(frozen=True, slots=True)
class Head:
    """The first keys of a shard, end to end: all before `stop`, but no more than `limit`.

    `stop` as a cutoff; None: there is none, so that all entries are told unless they are too many.
    """

    keys: bytes
    stop: bytes | None
    limit: int

    @property
    def count(self) -> int:
        """How many keys these are."""
        return len(self.keys) // KEY_BYTES

    @property
    def whole(self) -> bool:
        """Whether these are all entries of the shard."""
        return self.stop is None and self.count < self.limit

    def reaches(self, cutoff: bytes) -> bool:
        """Whether all that stands before a cutoff is here."""
        if self.count < self.limit:
            return self.stop is None or cutoff <= self.stop
        return cutoff <= self.keys[-KEY_BYTES:]

    def before(self, cutoff: bytes) -> int:
        """How many of the keys are smaller."""
        return bisect_left(range(self.count), cutoff, key=self._key)

    def _key(self, place: int) -> bytes:
        return self.keys[place * KEY_BYTES : (place + 1) * KEY_BYTES]


@dataclass(frozen=True, slots=True)
class Counted:
    """What is known of some shards together."""

    heads: Mapping[int, Head]
    estimate: Estimate | None

    def before(self, cutoff: bytes, shard: int) -> Bounds | None:
        """What stands before a cutoff in a shard; None: not known."""
        head = self.heads[shard]
        if head.reaches(cutoff):
            exact = head.before(cutoff)
            return exact, exact
        if self.estimate is None:
            return None
        low, high = self.estimate.before(cutoff, shard)
        known = head.before(cutoff)
        return max(low, known), max(high, known)

    def count(self, shard: int) -> Bounds | None:
        """The entries of a shard; None: not known."""
        head = self.heads[shard]
        if head.whole:
            return head.count, head.count
        if self.estimate is None:
            return None
        low, high = self.estimate.count(shard)
        return max(low, head.count), max(high, head.count)


def stop_of(
    estimate: Estimate | None, shard: int, cutoffs: Sequence[bytes], *, limit: int
) -> bytes | None:
    """How far a shard is counted, which tells what stands before each of the cutoffs that are not
    too far down: b"" where there is none, None: to its end.
    """
    if estimate is None or estimate.count(shard)[1] < limit:
        return None
    near = [cutoff for cutoff in cutoffs if estimate.before(cutoff, shard)[0] < limit]
    return max(near, default=b"")
