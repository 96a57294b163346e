"""What stands around a point: rows of every shard, as few as make the answer certain."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Final

from core.ordering import PREFIX_BYTES, VALUE_BYTES
from core.ports import IndexedEntry, IndexView, KeyRange, Window
from core.shared_reads import SharedReads
from core.types import EntryState, shard_of
from core.values import value
from sharding.keys import SHARDS
from sharding.merge import ROW_BYTES, TAIL_BYTES, bound, merge, pairs
from sharding.reading import SeasonRead, view_of
from sharding.replies import parts_of
from sharding.shard_counts import ShardCounts

SHARED_ROWS_MAX: Final = 40
"""A larger window is asked for alone: it holds up the nodes by itself."""
WINDOWS_MAX: Final = 32
"""Users whose small windows are asked for at once."""
_NO_CUT: Final = -1
"""No rows are as long: they were not limited, or not below what is wanted."""
_LEAST: Final = b""
_GREATEST: Final = b"\xff" * (ROW_BYTES + 1)
_ALL: Final = KeyRange()
_STATE_BITS: Final = 6
"""Below the two of the state in the first byte of a tail."""


@value
class Share:
    """What one shard has of a window, at one instant: how many of its entries stand before the
    point, and its rows next to the point on either side, best or worst first.
    """

    before: int
    above: bytes
    below: bytes


Shares = dict[int, Share]
Stretch = tuple[int, bytes]
"""How many entries of a shard stand before a key, and the rows on either side of it, best first and
without its own: as many above it as were asked for, or all.
"""
State = tuple[int, int, int]
"""A shard's epoch, its live entries, and how far it has caught up, in ms."""
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

    async def ask(
        self, read: SeasonRead, shards: Iterable[int], above: int, below: int
    ) -> tuple[Shares, dict[int, State]]:
        """The shares of some shards, of so many rows at most, and their states. Cost: one trip."""
        low, high, point = bound(self.within.low), bound(self.within.high), bound(self.point)
        least = b"[" + low if low else b"("
        most = b"(" + high if high else b"+"
        # Where the point lies beside the range, all of the range is on one side of it.
        start = b"[" + point if point > low else least
        stop = b"(" + point if not high or point < high else most
        args = (point, least, stop, above, start, most, below)
        replies = await read.ask("window", [args], dict.fromkeys(shards, ()))
        shares, states = {}, {}
        for shard, (reply,) in replies.items():
            epoch, live, ms, before, above_rows, below_rows = parts_of(reply, 6)
            shares[shard] = Share(before, above_rows, below_rows)
            states[shard] = epoch, live, ms
        return shares, states


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
    shares, states = await span.ask(read, shards, quotas.above, quotas.below)
    merged = await _completed(read, span, quotas, shares, states, list(shards))
    return _window_of(merged, shares, note_counts(read, counts, states))


async def read_windows_of(
    read: SeasonRead, counts: ShardCounts, user_ids: Sequence[int], *, above: int, below: int
) -> Windows:
    """The entries of those users that have one, and what stands around each.

    A user's own shard is asked first, and for all it could have, so that the entry and all its
    shard says are of one instant. Cost: two round trips, and one more for each user of whom a shard
    has more than it sent.
    """
    own, homes = await _own_stretches(read, user_ids, above, below)
    if not own:
        return {}
    quotas = _Quotas.of(counts, read.season_number, above, below)
    others, states = await _other_stretches(read, own, quotas)
    states = homes | states
    view = _common_view(read, counts, homes, states)
    windows = {}
    for user_id, (entry, stretch) in own.items():
        span = Span(entry.key, above, below, _ALL)
        window = _window_beside(span, stretch, others[user_id], quotas, view)
        if window is None:
            shares = {
                shard: _share_of(part, quotas.above) for shard, part in others[user_id].items()
            }
            partial = list(shares)
            shares[shard_of(user_id)] = _share_of(stretch, above)
            now = dict(states)
            merged = await _completed(read, span, quotas, shares, now, partial)
            window = _window_of(merged, shares, _common_view(read, counts, homes, now))
        windows[user_id] = entry, window
    return windows


async def _own_stretches(
    read: SeasonRead, user_ids: Iterable[int], above: int, below: int
) -> tuple[dict[int, tuple[IndexedEntry, Stretch]], dict[int, State]]:
    """The entries of users with what their own shards have beside them, and the states of those
    shards.
    """
    homes: dict[int, list[int]] = {}
    for user_id in user_ids:
        homes.setdefault(shard_of(user_id), []).append(user_id)
    asked = {shard: (struct.pack(f">{len(ids)}Q", *ids),) for shard, ids in homes.items()}
    replies = await read.ask("around", [(above, below)], asked)
    own, states = {}, {}
    for shard, ids in homes.items():
        epoch, live, ms, *told = parts_of(replies[shard][0], 3 + 3 * len(ids))
        states[shard] = epoch, live, ms
        parts = zip(ids, told[::3], told[1::3], told[2::3], strict=True)
        for user_id, found, before, rows in parts:
            if found:
                own[user_id] = entry_of(user_id, found, before), (before, rows)
    return own, states


async def _other_stretches(
    read: SeasonRead, own: Mapping[int, tuple[IndexedEntry, Stretch]], quotas: _Quotas
) -> tuple[Mapping[int, dict[int, Stretch]], dict[int, State]]:
    """What all other shards have beside the entries of users, and the states of those shards."""
    homes = {user_id: shard_of(user_id) for user_id in own}
    users = {shard: [user for user, home in homes.items() if home != shard] for shard in SHARDS}
    replies = await read.ask(
        "near",
        [(quotas.above, quotas.below)],
        {
            shard: (b"".join([own[user][0].key for user in some]),)
            for shard, some in users.items()
            if some
        },
    )
    others: dict[int, dict[int, Stretch]] = {user_id: {} for user_id in own}
    states = {}
    for shard, (reply,) in replies.items():
        some = users[shard]
        epoch, live, ms, *told = parts_of(reply, 3 + 2 * len(some))
        states[shard] = epoch, live, ms
        for user_id, stretch in zip(some, zip(told[::2], told[1::2], strict=True), strict=True):
            others[user_id][shard] = stretch
    return others, states


def entry_of(user_id: int, value: bytes, before_in_shard: int) -> IndexedEntry:
    """The entry of a user, out of its 36-byte value."""
    tail = value[VALUE_BYTES - TAIL_BYTES :]
    hidden = tail[0] >> _STATE_BITS == EntryState.HIDDEN
    key = value[:PREFIX_BYTES] + user_id.to_bytes(8, "big")
    return IndexedEntry(key, tail, before_in_shard, hidden)


def note_counts(read: SeasonRead, counts: ShardCounts, states: Mapping[int, State]) -> IndexView:
    """The view of some shards; how the entries are spread over all of them is remembered."""
    if len(states) == len(SHARDS):
        counts.note(read.season_number, [states[shard][1] for shard in SHARDS])
    return view_of(states.values())


def _common_view(
    read: SeasonRead, counts: ShardCounts, homes: Mapping[int, State], states: Mapping[int, State]
) -> IndexView:
    """One view for all users of a read: as old as the oldest of what was said to any of them."""
    entry_count = note_counts(read, counts, states).entry_count
    return replace(view_of([*homes.values(), *states.values()]), entry_count=entry_count)


def _window_beside(
    span: Span, own: Stretch, others: Mapping[int, Stretch], quotas: _Quotas, view: IndexView
) -> Window | None:
    """What stands around a key; None where another shard may have more of it than it sent."""
    all_before, blobs = zip(own, *others.values(), strict=True)
    rows = merge(blobs)
    place = bisect_left(rows, span.point)
    above = rows[max(0, place - span.above) : place]
    below = rows[place : place + span.below]
    first = above[0] if len(above) >= span.above > 0 else _LEAST
    last = below[-1] if len(below) >= span.below > 0 else _GREATEST
    above_cut = quotas.above if quotas.above < span.above else inf
    below_cut = quotas.below if quotas.below < span.below else inf
    for before, blob in others.values():
        if before > above_cut and blob[:ROW_BYTES] > first:
            return None
        sent_below = len(blob) // ROW_BYTES - min(before, quotas.above)
        if sent_below == below_cut and blob[-ROW_BYTES:] < last:
            return None
    return Window(sum(all_before), pairs(above), pairs(below), view)


def _share_of(stretch: Stretch, above: int) -> Share:
    """A stretch as a share; up to so many rows above the point were asked for."""
    before, rows = stretch
    place = ROW_BYTES * min(before, above)
    return Share(before, rows[:place], rows[place:])


async def _completed(
    read: SeasonRead,
    span: Span,
    quotas: _Quotas,
    shares: Shares,
    states: dict[int, State],
    partial: Sequence[int],
) -> _Merged:
    """The rows of a span, once no shard lacks any: those shares that were asked for quotas, and
    whose shards may have more, are replaced, and so are the states of these shards. Cost: nothing,
    or a round trip.
    """
    while True:
        merged = _Merged.of(span, shares.values())
        again = merged.lacking(shares, partial, quotas)
        if not again:
            return merged
        # What is asked again may have changed, and so may what the others lack.
        partial = [shard for shard in partial if shard not in again]
        new_shares, new_states = await span.ask(read, again, span.above, span.below)
        shares |= new_shares
        states |= new_states


def _window_of(merged: _Merged, shares: Shares, view: IndexView) -> Window:
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
            if (len(above) == above_cut and min(above[:ROW_BYTES], above[-ROW_BYTES:]) > first) or (
                len(below) == below_cut and below[-ROW_BYTES:] < last
            ):
                again.append(shard)
        return again
