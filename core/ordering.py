"""The one total order of a board, as bytes.

A key is 32 bytes, big-endian, and plain byte order is rank order:

    enc(score) | enc(subscore) | arrival | user_id

with enc(x) = x + 2^63, complemented where the column is descending. Redis sorts by these keys,
PostgreSQL makes the same bytes in storage/migrations, and a test holds the two together.

The index keeps per user an *item*: `user_id (8) | value (36)`, where

    value = key prefix (24) | revision (6) | state (2 bits) and achieve_time in ms (46 bits)
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from core.ports import KeyRange
from core.types import (
    INT64_MAX,
    INT64_MIN,
    BoardSpec,
    EntryState,
    RankMode,
    ScoreRange,
    SortOrder,
    Standing,
)

KEY_BYTES: Final = 32
PREFIX_BYTES: Final = 24
"""The key without its user: what the index value carries."""
RESULT_BYTES: Final = 16
"""(score, subscore) alone: the cutoff of competition ranks and of score ranges."""
VALUE_BYTES: Final = 36
ITEM_BYTES: Final = 8 + VALUE_BYTES
_STATE_AT: Final = 38
_STATE_BITS: Final = 6
"""Below the two of the state in that byte of an item."""
_BEHIND: Final = b"\xff"
"""Stands behind every arrival: one is a positive bigint, whose first byte is below 0x80."""
END: Final = b"\xff" * RESULT_BYTES + _BEHIND
"""The point behind every key."""

_ACHIEVE_BITS: Final = 46
_ACHIEVE_MASK: Final = (1 << _ACHIEVE_BITS) - 1
_UINT64_MASK: Final = 2**64 - 1
_SIGN: Final = 2**63
_ASCENDING: Final = INT64_MIN
_FOUR = struct.Struct(">QQQQ")
_TWO = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Ordering:
    """A board's two directions as XOR masks over two's complement.

    x + 2^63 flips the sign bit; its complement flips all the other bits instead.
    """

    score_mask: int
    subscore_mask: int

    @classmethod
    def of(cls, spec: BoardSpec) -> Ordering:
        """The ordering of a board."""
        return _ORDERINGS[spec.sort_order, spec.subscore_sort_order]

    def result(self, score: int, subscore: int) -> bytes:
        """The 16-byte prefix of every key with this (score, subscore)."""
        return _TWO.pack(
            (score ^ self.score_mask) & _UINT64_MASK, (subscore ^ self.subscore_mask) & _UINT64_MASK
        )

    def first_result(self, results: Collection[tuple[int, int]]) -> bytes:
        """The smallest of some results, each (score, subscore); there must be one."""
        ascending = [mask == _ASCENDING for mask in (self.score_mask, self.subscore_mask)]
        if all(ascending):
            return self.result(*min(results))
        if not any(ascending):
            return self.result(*max(results))
        return min(self.result(score, subscore) for score, subscore in results)

    def behind(self, score: int, subscore: int) -> bytes:
        """The point after all entries with this (score, subscore)."""
        return self.result(score, subscore) + _BEHIND

    def key_range(self, scores: ScoreRange) -> KeyRange:
        """The keys of all entries whose score is within the range."""
        best, worst = scores.low, scores.high
        if self.score_mask == mask_of(SortOrder.DESCENDING):
            best, worst = worst, best
        return KeyRange(
            low=b"" if best is None else self._score(best),
            high=b"" if worst is None else self._score(worst) + b"\xff" * 8 + _BEHIND,
        )

    def key(self, score: int, subscore: int, arrival: int, user_id: int) -> bytes:
        """The 32-byte key of an entry."""
        return _FOUR.pack(
            (score ^ self.score_mask) & _UINT64_MASK,
            (subscore ^ self.subscore_mask) & _UINT64_MASK,
            arrival,
            user_id,
        )

    def standing(self, key: bytes, tail: bytes) -> Standing:
        """The entry behind a 32-byte key and the last six bytes of its index value."""
        score, subscore, _, user_id = _FOUR.unpack(key)
        # By position, and without a call for each number: pages are made of hundreds of these.
        return Standing(
            user_id,
            ((score ^ self.score_mask ^ _SIGN) & _UINT64_MASK) - _SIGN,
            ((subscore ^ self.subscore_mask ^ _SIGN) & _UINT64_MASK) - _SIGN,
            int.from_bytes(tail, "big") & _ACHIEVE_MASK,
        )

    def _score(self, score: int) -> bytes:
        return self.result(score, 0)[:8]


def mask_of(order: SortOrder) -> int:
    """The XOR mask of a direction, as a signed 64-bit number (PostgreSQL's bigint)."""
    return _ASCENDING if order is SortOrder.ASCENDING else INT64_MAX


_ORDERINGS: Final = {
    orders: Ordering(*map(mask_of, orders)) for orders in itertools.product(SortOrder, repeat=2)
}


def cutoff_bytes_of(mode: RankMode) -> int:
    """How much of a key decides what stands before it: all of it, or the result alone."""
    return RESULT_BYTES if mode is RankMode.COMPETITION else KEY_BYTES


def ranks_of(
    keys: Sequence[bytes],
    mode: RankMode,
    *,
    before: int = 0,
    first: int | None = None,
    hidden: int | None = None,
) -> Sequence[int]:
    """The ranks of sorted keys that stand next to each other, behind `before` others.

    `first`: the rank of the first key where its equals are among those others. `hidden`: the
    index of a key that gets the rank it would have, and that all others pass over.
    """
    cutoff_bytes = cutoff_bytes_of(mode)
    ranks: list[int] = []
    place = before + 1
    for index, key in enumerate(keys):
        if index == 0:
            ranks.append(first or place)
        elif key[:cutoff_bytes] == keys[index - 1][:cutoff_bytes]:
            ranks.append(ranks[-1])
        else:
            ranks.append(place)
        place += index != hidden
    return ranks


@dataclass(frozen=True, slots=True)
class Item:
    """An index item, decoded."""

    user_id: int
    prefix: bytes
    revision: int
    state: EntryState
    achieve_time_ms: int

    @property
    def key(self) -> bytes:
        """What it is ranked by."""
        return self.prefix + self.user_id.to_bytes(8, "big")

    @property
    def tail(self) -> bytes:
        """The last six bytes."""
        return (self.state << _ACHIEVE_BITS | self.achieve_time_ms).to_bytes(6, "big")


def encode_item(item: Item) -> bytes:
    """The 44 bytes of an item, as PostgreSQL's index_item() makes them."""
    return b"".join(
        (
            item.user_id.to_bytes(8, "big"),
            item.prefix,
            item.revision.to_bytes(6, "big"),
            item.tail,
        )
    )


def decode_item(data: bytes) -> Item:
    """The item behind 44 bytes."""
    tail = int.from_bytes(data[38:44], "big")
    return Item(
        user_id=int.from_bytes(data[:8], "big"),
        prefix=data[8:32],
        revision=int.from_bytes(data[32:38], "big"),
        state=EntryState(tail >> _ACHIEVE_BITS),
        achieve_time_ms=tail & _ACHIEVE_MASK,
    )


def live_count(items: bytes) -> int:
    """How many of some items, end to end, are of live entries."""
    states = items[_STATE_AT::ITEM_BYTES]
    return sum(state >> _STATE_BITS == EntryState.LIVE for state in states)
