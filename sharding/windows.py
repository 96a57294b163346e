"""What stands around a point: rows of every shard, as few as make the answer certain."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from core.ordering import PREFIX_BYTES, VALUE_BYTES
from core.ports import IndexedEntry, IndexView, KeyRange, Window
from core.shared_reads import SharedReads
from core.types import EntryState, shard_of
from core.values import value
from sharding.keys import SHARDS
from sharding.merge import ROW_BYTES, TAIL_BYTES, bound, merge, pairs
from sharding.reading import SeasonRead, view_of
from sharding.replies import Reply, parts_of
from sharding.shard_counts import ShardCounts

SHARED_ROWS_MAX: Final = 40
"""A larger window is asked for alone: it holds up the nodes by itself."""
WINDOWS_MAX: Final = 32
"""Users whose small windows are asked for at once."""
_NO_CUT: Final = -1
"""No rows are as long: they were not limited, or not below what is wanted."""
_LEAST: Final = b""
_GREATEST: Final = b"\xff" * (ROW_BYTES + 1)
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
        """The share in a reply to `window`."""
        epoch, live, ms, before, above, below = parts_of(reply, 6)
        return cls((epoch, live, ms), before, above, below)


Shares = dict[int, Share]
Windows = Mapping[int, tuple[IndexedEntry, Window]]
"""By user; those without an entry are left out."""
WindowsTogether = SharedReads[int, Windows]


@value
class Span:
    """Which rows are wanted: up to so many on either side of a point, within a range."""

    point: bytes
    above: int
    below: int
    within: KeyRange

    async def ask(self, read: SeasonRead, shards: Iterable[int], above: int, below: int) -> Shares:
        """The shares of some shards, of so many rows at most. Cost: one round trip."""
        low, high, point = bound(self.within.low), bound(self.within.high), bound(self.point)
        least = b"[" + low if low else b"("
        most = b"(" + high if high else b"+"
        # Where the point lies beside the range, all of the range is on one side of it.
        start = b"[" + point if point > low else least
        stop = b"(" + point if not high or point < high else most
        args = (point, least, stop, above, start, most, below)
        replies = await read.ask("window", [args], dict.fromkeys(shards, ()))
        return {shard: Share.of(reply) for shard, (reply,) in replies.items()}


async def read_window(
    read: SeasonRead,
    counts: ShardCounts,
    span: Span,
    *,
    shards: Sequence[int] = SHARDS,
) -> Window:
    """What stands around a point in some shards.

    Each shard is asked for hardly more than it has of the answer. Where one of them may have more
    of it than it sent, it is asked again for all it could have, and what it said first is void.
    Cost: one round trip, and one more where that happens.
    """
    quotas = _Quotas.of(counts, read.season_number, span.above, span.below)
    shares = await span.ask(read, shards, quotas.above, quotas.below)
    merged = await _completed(read, span, quotas, shares, list(shards))
    return _window_of(merged, read, counts, shares)


async def read_windows_of(
    read: SeasonRead, counts: ShardCounts, user_ids: Sequence[int], *, above: int, below: int
) -> Windows:
    """The entries of those users that have one, and what stands around each.

    A user's own shard is asked first, and for all it could have, so that the entry and all its
    shard says are of one instant. Cost: two round trips, and one more for each user of whom a shard
    has more than it sent.
    """
    own = await _own_shares(read, user_ids, above, below)
    if not own:
        return {}
    quotas = _Quotas.of(counts, read.season_number, above, below)
    others = await _other_shares(read, own, quotas)
    windows = {}
    for user_id, (entry, share) in own.items():
        shares = others[user_id]
        partial = list(shares)
        shares[shard_of(user_id)] = share
        span = Span(entry.key, above, below, KeyRange())
        merged = await _completed(read, span, quotas, shares, partial)
        windows[user_id] = entry, _window_of(merged, read, counts, shares)
    return windows


async def _own_shares(
    read: SeasonRead, user_ids: Iterable[int], above: int, below: int
) -> dict[int, tuple[IndexedEntry, Share]]:
    """The entries of users, and what their own shards have beside them."""
    homes: dict[int, list[int]] = {}
    for user_id in user_ids:
        homes.setdefault(shard_of(user_id), []).append(user_id)
    asked = {shard: (struct.pack(f">{len(ids)}Q", *ids),) for shard, ids in homes.items()}
    replies = await read.ask("around", [(above, below)], asked)
    own = {}
    for shard, ids in homes.items():
        epoch, live, ms, *told = parts_of(replies[shard][0], 3 + 4 * len(ids))
        for place, user_id in enumerate(ids):
            value, before, *rows = told[4 * place : 4 * place + 4]
            if value:
                entry = entry_of(user_id, value, before)
                own[user_id] = entry, Share((epoch, live, ms), before, *rows)
    return own


async def _other_shares(
    read: SeasonRead, own: Mapping[int, tuple[IndexedEntry, Share]], quotas: _Quotas
) -> Mapping[int, Shares]:
    """What all other shards have beside the entries of users."""
    keys = {user_id: entry.key for user_id, (entry, _) in own.items()}
    homes = [(user_id, shard_of(user_id)) for user_id in own]
    users = {shard: [user for user, home in homes if home != shard] for shard in SHARDS}
    replies = await read.ask(
        "near",
        [(quotas.above, quotas.below)],
        {shard: (b"".join(keys[user] for user in some),) for shard, some in users.items() if some},
    )
    others: dict[int, Shares] = {user_id: {} for user_id in own}
    for shard, (reply,) in replies.items():
        some = users[shard]
        epoch, live, ms, *told = parts_of(reply, 3 + 3 * len(some))
        state = epoch, live, ms
        for place, user_id in enumerate(some):
            others[user_id][shard] = Share(state, *told[3 * place : 3 * place + 3])
    return others


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


async def _completed(
    read: SeasonRead, span: Span, quotas: _Quotas, shares: Shares, partial: Sequence[int]
) -> _Merged:
    """The rows of a span, once no shard lacks any: those shares that were asked for quotas, and
    whose shards may have more, are replaced. Cost: nothing, or a round trip.
    """
    while True:
        merged = _Merged.of(span, shares.values())
        again = merged.lacking(shares, partial, quotas)
        if not again:
            return merged
        # What is asked again may have changed, and so may what the others lack.
        partial = [shard for shard in partial if shard not in again]
        shares |= await span.ask(read, again, span.above, span.below)


def _window_of(merged: _Merged, read: SeasonRead, counts: ShardCounts, shares: Shares) -> Window:
    view = note_counts(read, counts, shares)
    before = sum(share.before for share in shares.values())
    return Window(before, pairs(merged.above), pairs(merged.below), view)


@value
class _Quotas:
    """How many rows every shard is asked for on either side of a point."""

    above: int
    below: int

    @classmethod
    def of(cls, counts: ShardCounts, season_number: int, above: int, below: int) -> _Quotas:
        """As many as are hardly ever too few for so many."""
        return cls(counts.quota(season_number, above), counts.quota(season_number, below))


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

    def lacking(self, shares: Shares, partial: Iterable[int], quotas: _Quotas) -> list[int]:
        """The shards that were asked for so many rows and may have more that belong here: they sent
        them all, and the last of them is not at the edge yet.
        """
        above_cut = quotas.above * ROW_BYTES if quotas.above < self.span.above else _NO_CUT
        below_cut = quotas.below * ROW_BYTES if quotas.below < self.span.below else _NO_CUT
        first = self.above[0] if len(self.above) >= self.span.above > 0 else _LEAST
        last = self.below[-1] if len(self.below) >= self.span.below > 0 else _GREATEST
        again = []
        for shard in partial:
            share = shares[shard]
            above, below = share.above, share.below
            if (len(above) == above_cut and above[-ROW_BYTES:] > first) or (
                len(below) == below_cut and below[-ROW_BYTES:] < last
            ):
                again.append(shard)
        return again
