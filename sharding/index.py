"""core.ports.Index over Redis Cluster."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

from core.ordering import KEY_BYTES, VALUE_BYTES
from core.ports import Freshness, IndexedEntry, IndexView, KeyRange, PageSlice, Window
from core.types import ALL_SHARDS, IndexChange, shard_of
from sharding.apply import apply_batches, by_shard
from sharding.deep_pages import read_page
from sharding.library import Argument
from sharding.merge import bound
from sharding.metrics import APPLY_MISSED, timed
from sharding.reading import Replies, SeasonRead, view_of
from sharding.replies import Reply, parts_of
from sharding.router import Router
from sharding.shard_counts import ShardCounts
from sharding.windows import (
    SHARED_ROWS_MAX,
    Span,
    Windows,
    WindowsTogether,
    entry_of,
    read_window,
    read_windows_of,
)

_CUTOFFS_MAX: Final = 128
"""Counts a call may ask of each shard: 16,000 of them hold up a node for about 10 ms."""
_GONE: Final = bytes(VALUE_BYTES)


class RedisIndex:
    """The sorted entries of every season over 16 shards."""

    def __init__(self, router: Router, together: WindowsTogether | None = None) -> None:
        """`together` brings those together who ask for small windows; None: all ask alone."""
        self._router = router
        self._together = together
        self._shard_counts = ShardCounts()

    async def apply(self, xid: int, changes: Sequence[IndexChange]) -> frozenset[tuple[int, int]]:
        """As core.ports.Index.apply."""
        batches = by_shard(changes)
        results = await apply_batches(self._router, b"%d" % xid, batches)
        missed = frozenset(
            (season, shard)
            for shard, unheld in results.items()
            for season in (batches[shard].seasons if unheld is None else unheld)
        )
        if missed:
            APPLY_MISSED.inc(len(missed))
        return missed

    @timed
    async def users(
        self, season_number: int, user_ids: Sequence[int], *, cutoff_bytes: int, fresh: Freshness
    ) -> tuple[Mapping[int, IndexedEntry], IndexView]:
        """As core.ports.EntryReads.users."""
        asked: dict[int, list[int]] = {}
        for user_id in user_ids:
            asked.setdefault(shard_of(user_id), []).append(user_id)
        replies = await self._read(season_number, fresh).ask(
            "users",
            [(cutoff_bytes,)],
            {shard: (struct.pack(f">{len(ids)}Q", *ids),) for shard, ids in asked.items()},
        )
        entries: dict[int, IndexedEntry] = {}
        for shard, rounds in replies.items():
            entries.update(_entries(asked[shard], rounds[0]))
        return entries, _view(replies)

    @timed
    async def count_before(
        self,
        season_number: int,
        cutoffs: Sequence[bytes],
        *,
        shards: Sequence[int],
        fresh: Freshness,
    ) -> tuple[Sequence[Sequence[int]], IndexView]:
        """As core.ports.EntryReads.count_before."""
        replies = await self._read(season_number, fresh).ask(
            "ranks", list(_cutoff_rounds(cutoffs)), dict.fromkeys(shards, ())
        )
        counts = _counts(replies, shards)
        places = [place * len(cutoffs) for place in range(len(shards))]
        return [counts[first : first + len(cutoffs)] for first in places], _view(replies)

    @timed
    async def window(
        self,
        season_number: int,
        point: bytes,
        *,
        above: int,
        below: int,
        within: KeyRange,
        fresh: Freshness,
        shards: Sequence[int] = ALL_SHARDS,
    ) -> Window:
        """As core.ports.EntryReads.window."""
        read = self._read(season_number, fresh)
        span = Span(point, above, below, within)
        return await read_window(read, self._shard_counts, span, shards=shards)

    @timed
    async def window_of(
        self, season_number: int, user_id: int, *, above: int, below: int, fresh: Freshness
    ) -> tuple[IndexedEntry, Window] | None:
        """As core.ports.EntryReads.window_of; a small one, however fresh, is shared with others."""

        async def read(user_ids: Sequence[int]) -> Windows:
            asked = self._read(season_number, fresh)
            return await read_windows_of(
                asked, self._shard_counts, user_ids, above=above, below=below
            )

        small = above + below <= SHARED_ROWS_MAX and not fresh.xids
        if small and self._together is not None:
            kind = (season_number, above, below)
            return (await self._together.answer(kind, user_id, read)).get(user_id)
        return (await read([user_id])).get(user_id)

    @timed
    async def page_at(
        self, season_number: int, *, offset: int, limit: int, fresh: Freshness
    ) -> PageSlice:
        """As core.ports.EntryReads.page_at."""
        return await read_page(self._read(season_number, fresh), self._shard_counts, offset, limit)

    def _read(self, season_number: int, fresh: Freshness) -> SeasonRead:
        return SeasonRead(self._router, season_number, fresh)


def _cutoff_rounds(cutoffs: Sequence[bytes]) -> Iterable[tuple[Argument, ...]]:
    """Runs of equally long cutoffs, as few as keep their order; one empty round if there is none.

    No key is smaller than nothing, nor than a zero byte, which has a length to cut a blob by.
    """
    rest = iter([bound(cutoff) or b"\0" for cutoff in cutoffs])
    run = list(islice(rest, 1))
    if not run:
        yield (KEY_BYTES, b"")
    for cutoff in rest:
        if len(cutoff) != len(run[0]) or len(run) == _CUTOFFS_MAX:
            yield (len(run[0]), b"".join(run))
            run = []
        run.append(cutoff)
    if run:
        yield (len(run[0]), b"".join(run))


def _counts(replies: Replies, shards: Sequence[int]) -> Sequence[int]:
    """What each shard counted, one after the other."""
    blob = b"".join([parts_of(reply, 4)[3] for shard in shards for reply in replies[shard]])
    return struct.unpack(f">{len(blob) // 8}Q", blob)


def _entries(user_ids: Sequence[int], reply: Reply) -> Iterable[tuple[int, IndexedEntry]]:
    _, _, _, values, counts = parts_of(reply, 5)
    before = struct.unpack(f">{len(user_ids)}Q", counts)
    for place, user_id in enumerate(user_ids):
        value = values[place * VALUE_BYTES : (place + 1) * VALUE_BYTES]
        if value != _GONE:
            yield user_id, entry_of(user_id, value, before[place])


def _view(replies: Replies) -> IndexView:
    """What the shards that were asked say of the season; nothing, if none was."""
    states = [parts_of(rounds[0], 3) for rounds in replies.values()]
    return view_of(states) if states else IndexView(0, 0)
