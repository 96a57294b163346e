"""What stands around a point: rows of every shard, as few as make the answer certain."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from core.ordering import PREFIX_BYTES, VALUE_BYTES
from core.ports import IndexedEntry, IndexView, KeyRange, Window
from core.types import EntryState, shard_of
from core.values import value
from sharding.keys import SHARDS
from sharding.merge import ROW_BYTES, TAIL_BYTES, merge, pairs
from sharding.reading import SeasonRead, view_of
from sharding.replies import Reply, parts_of
from sharding.shard_counts import ShardCounts

_STATE_BITS: Final = 6
"""Below the two of the state in the first byte of a tail."""


@value
class Share:
    """What one shard has of a window, at one instant: its rows next to the point on either side,
    nearest first, and how many of its entries stand before the point.
    """

    state: tuple[int, int, int]
    before: int
    above: bytes
    below: bytes

    @classmethod
    def of(cls, reply: Reply) -> Share:
        """The share in a reply to `window` or `around`."""
        epoch, live, ms, before, above, below = parts_of(reply, 6)
        return cls((epoch, live, ms), before, above, below)


Shares = dict[int, Share]


@value
class Span:
    """Which rows are wanted: up to so many on either side of a point, within a range."""

    point: bytes
    above: int
    below: int
    within: KeyRange

    async def ask(self, read: SeasonRead, shards: Iterable[int], above: int, below: int) -> Shares:
        """The shares of some shards, of so many rows at most. Cost: one round trip."""
        low, high = self.within.low, self.within.high
        least = b"[" + low if low else b"("
        most = b"(" + high if high else b"+"
        # Where the point lies beside the range, all of the range is on one side of it.
        start = b"[" + self.point if self.point > low else least
        stop = b"(" + self.point if not high or self.point < high else most
        args = (self.point, least, stop, above, start, most, below)
        replies = await read.ask("window", [args], dict.fromkeys(shards, ()))
        return {shard: Share.of(reply) for shard, (reply,) in replies.items()}


async def read_window(
    read: SeasonRead,
    counts: ShardCounts,
    span: Span,
    *,
    shards: Sequence[int] = SHARDS,
    known: Mapping[int, Share] | None = None,
) -> Window:
    """What stands around a point in some shards; `known` are shares that have all rows wanted.

    Each shard is asked for hardly more than it has of the answer. Where one of them may have more
    of it than it sent, it is asked again for all it could have, and what it said first is void.
    Cost: one round trip, and one more where that happens.
    """
    quota_above = counts.quota(read.season_number, span.above)
    quota_below = counts.quota(read.season_number, span.below)
    shares = dict(known or {})
    partial = [shard for shard in shards if shard not in shares]
    shares |= await span.ask(read, partial, quota_above, quota_below)
    while True:
        merged = _Merged.of(span, shares.values())
        again = [s for s in partial if merged.may_lack(shares[s], quota_above, quota_below)]
        if not again:
            break
        # What is asked again may have changed, and so may what the others lack.
        partial = [shard for shard in partial if shard not in again]
        shares |= await span.ask(read, again, span.above, span.below)
    view = note_counts(read, counts, shares)
    before = sum(share.before for share in shares.values())
    return Window(before, pairs(merged.above), pairs(merged.below), view)


async def read_window_of(
    read: SeasonRead, counts: ShardCounts, user_id: int, *, above: int, below: int
) -> tuple[IndexedEntry, Window] | None:
    """A user's entry and what stands around it; None without one.

    The user's own shard is asked first, and for all it could have, so that the entry and all its
    shard says are of one instant. Cost: two round trips, and one more as for `read_window`.
    """
    home = shard_of(user_id)
    user = user_id.to_bytes(8, "big")
    replies = await read.ask("around", [(user, above, below)], {home: ()})
    reply = replies[home][0]
    own = Share.of(reply)
    value = reply[-1] if isinstance(reply, list) else None
    if not isinstance(value, bytes) or not value:
        return None
    entry = entry_of(user_id, value, own.before)
    span = Span(entry.key, above, below, KeyRange())
    window = await read_window(read, counts, span, known={home: own})
    return entry, window


def entry_of(user_id: int, value: bytes, before_in_shard: int) -> IndexedEntry:
    """The entry of a user, out of its 36-byte value."""
    tail = value[VALUE_BYTES - TAIL_BYTES :]
    hidden = tail[0] >> _STATE_BITS == EntryState.HIDDEN
    key = value[:PREFIX_BYTES] + user_id.to_bytes(8, "big")
    return IndexedEntry(key, tail, before_in_shard, hidden)


def note_counts(read: SeasonRead, counts: ShardCounts, shares: Mapping[int, Share]) -> IndexView:
    """The view of some shards; how the entries are spread over all of them is remembered."""
    if len(shares) == len(SHARDS):
        counts.note(read.season_number, [shares[shard].state[1] for shard in SHARDS])
    return view_of(share.state for share in shares.values())


@value
class _Merged:
    """The rows of a span, as far as some shares have them."""

    span: Span
    above: Sequence[bytes]
    below: Sequence[bytes]

    @classmethod
    def of(cls, span: Span, shares: Collection[Share]) -> _Merged:
        """The rows nearest to the point."""
        above = merge([share.above for share in shares])
        below = merge([share.below for share in shares])
        return cls(span, above[max(0, len(above) - span.above) :], below[: span.below])

    def may_lack(self, share: Share, quota_above: int, quota_below: int) -> bool:
        """Whether a shard that was asked for so many rows may have more that belong here: it sent
        them all, and the last of them is not at the edge yet.
        """
        return (
            _is_cut(share.above, quota_above, self.span.above)
            and (len(self.above) < self.span.above or share.above[-ROW_BYTES:] > self.above[0])
        ) or (
            _is_cut(share.below, quota_below, self.span.below)
            and (len(self.below) < self.span.below or share.below[-ROW_BYTES:] < self.below[-1])
        )


def _is_cut(rows: bytes, quota: int, wanted: int) -> bool:
    return quota < wanted and len(rows) == quota * ROW_BYTES
