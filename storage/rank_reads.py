"""core.ports.EntryReads on PostgreSQL, by rank keys: what answers while the index is away.

Entries and their order are exact, of one server at one instant. What stands before an entry far
down nobody counts: it is told from the season's newest snapshot, as roughly as the entries that
were written since make it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from core.errors import IndexUnavailable, LedgerUnavailable, QueueFull, WriteConflict
from core.ports import Freshness, IndexedEntry, IndexView, KeyRange, PageSlice, Window
from core.snapshot_ports import Snapshots
from core.snapshots import TOP_ROWS_MAX, RoughCounts
from core.types import ALL_SHARDS, EntryState, shard_of
from resilience.bulkhead import Bulkhead
from resilience.errors import BulkheadFull
from storage.rank_counts import BEHIND_ALL, Estimate
from storage.rank_season import SeasonRead, span
from storage.rank_sources import RankSource
from storage.rank_statements import AROUND, COUNT, USERS, WINDOW
from storage.settings import PostgresSettings

_RUNNING_MAX: Final = 8
_WAITING_MAX: Final = 16
"""Reads of a worker beyond these are refused at once, so that whoever is next on the ladder answers
them: who has lost the index must not lose the ledger to its readers as well."""
_SKIP_MAX: Final = 1_000
"""Entries that are read and left out to come closer to a place far down."""


class PostgresIndex:
    """The `EntryReads` port on one server; `source` leads there.

    Of the primary a read shows every committed transaction, so there is none that it could be
    behind. Who else is asked is not asked for a certain one.
    """

    def __init__(
        self, settings: PostgresSettings, source: RankSource, snapshots: Snapshots
    ) -> None:
        self._source = source
        self._snapshots = snapshots
        self._timeout_s = settings.read_timeout_ms / 1000
        self._bulkhead = Bulkhead(_RUNNING_MAX, _WAITING_MAX)

    async def users(
        self, season_number: int, user_ids: Sequence[int], *, cutoff_bytes: int, fresh: Freshness
    ) -> tuple[Mapping[int, IndexedEntry], IndexView]:
        """As core.ports.EntryReads.users. Cost: one round trip."""
        shards = sorted(set(map(shard_of, user_ids)))
        async with self._reading(season_number, shards, fresh) as read:
            found = await read.ask_of(USERS, user_ids, everywhere=False)
        items = found.items
        bounds = [
            found.before([item.key[:cutoff_bytes]], [shard_of(item.user_id)])[0][0]
            for item in items
        ]
        counts = RoughCounts.of([bounds])
        entries = {
            item.user_id: IndexedEntry(
                item.key, item.tail, before, hidden=item.state is EntryState.HIDDEN
            )
            for item, before in zip(items, counts.shards[0], strict=True)
        }
        return entries, read.view(found, counts)

    async def count_before(
        self,
        season_number: int,
        cutoffs: Sequence[bytes],
        *,
        shards: Sequence[int],
        fresh: Freshness,
    ) -> tuple[Sequence[Sequence[int]], IndexView]:
        """As core.ports.EntryReads.count_before."""
        async with self._reading(season_number, shards, fresh) as read:
            found = await read.ask(COUNT, read.stops(cutoffs))
        counts = RoughCounts.of(found.before(cutoffs, shards))
        return counts.shards, read.view(found, counts)

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
        """As core.ports.EntryReads.window. Cost: one round trip."""
        async with self._reading(season_number, shards, fresh) as read:
            return await _window(read, point, above=above, below=below, within=within)

    async def window_of(
        self, season_number: int, user_id: int, *, above: int, below: int, fresh: Freshness
    ) -> tuple[IndexedEntry, Window] | None:
        """As core.ports.EntryReads.window_of; all of it is of one instant. Cost: one round trip."""
        async with self._reading(season_number, ALL_SHARDS, fresh) as read:
            high_key, high_user = BEHIND_ALL
            found = await read.ask_of(
                AROUND,
                [user_id],
                everywhere=True,
                above=above,
                below=below + 1,
                high_key=high_key,
                high_user=high_user,
            )
        if not found.items:
            return None
        item = found.items[0]
        counts = RoughCounts.of(found.before([item.key], ALL_SHARDS))
        entry = IndexedEntry(
            item.key,
            item.tail,
            counts.shards[shard_of(user_id)][0],
            hidden=item.state is EntryState.HIDDEN,
        )
        after = [row for row in found.below if row[0] != item.key][:below]
        return entry, Window(counts.sum(), found.above, after, read.view(found, counts))

    async def page_at(
        self, season_number: int, *, offset: int, limit: int, fresh: Freshness
    ) -> PageSlice:
        """As core.ports.EntryReads.page_at. Exact where it ends among the first 1,000 entries;
        elsewhere it begins about there, as the view says. Cost: one round trip.
        """
        async with self._reading(season_number, ALL_SHARDS, fresh) as read:
            if offset + limit <= TOP_ROWS_MAX or offset == 0 or read.estimate is None:
                return await _top(read, offset, limit)
            key, about = read.estimate.snapshot.key_near(offset)
            skip = min(offset - about, _SKIP_MAX)
            window = await _window(read, key, above=0, below=skip + limit, within=KeyRange())
        ends = len(window.below) < skip + limit
        if offset - about > skip and offset >= window.view.entry_count and not ends:
            return _behind(window.view, read.estimate)
        skip = min(skip, len(window.below))
        return PageSlice(window.before + skip, window.below[skip:], window.view)

    @asynccontextmanager
    async def _reading(
        self, season_number: int, shards: Sequence[int], fresh: Freshness
    ) -> AsyncIterator[SeasonRead]:
        """Admits a read, and tells for it whatever goes wrong as IndexUnavailable."""
        try:
            async with self._bulkhead.room(self._timeout_s):
                yield SeasonRead(
                    self._source,
                    season_number,
                    shards,
                    await self._estimate(season_number, now=bool(fresh.xids)),
                    self._timeout_s,
                )
        except (BulkheadFull, LedgerUnavailable, QueueFull, WriteConflict) as error:
            raise IndexUnavailable(shards) from error

    async def _estimate(self, season_number: int, *, now: bool) -> Estimate | None:
        snapshot = self._snapshots.newest(season_number)
        if snapshot is None or not snapshot.horizon:
            return None
        writes = await self._source.writes(snapshot, now=now)
        if writes is None or writes.counts is None:
            return None
        return Estimate(snapshot, writes.counts, writes.as_of_ms, writes.least_ms)


async def _window(
    read: SeasonRead, point: bytes, *, above: int, below: int, within: KeyRange
) -> Window:
    found = await read.ask(WINDOW, read.stops([point]), **span(point, above, below, within))
    if not point and within == KeyRange() and len(found.below) < below:
        return Window(0, (), found.below, read.view_of_all(len(found.below), found.instant))
    counts = RoughCounts.of(found.before([point], read.shards))
    return Window(counts.sum(), found.above, found.below, read.view(found, counts))


def _behind(view: IndexView, estimate: Estimate) -> PageSlice:
    """No page, because the board ends about before it: so far before it that its last entries were
    not read. How many there are is known as roughly as the estimate makes it.
    """
    bounds = [estimate.count(shard) for shard in ALL_SHARDS]
    count = view.entry_count
    fewer = max(view.fewer, count - sum(low for low, _ in bounds))
    more = max(view.more, sum(high for _, high in bounds) - count)
    return PageSlice(count, [], replace(view, fewer=fewer, more=more))


async def _top(read: SeasonRead, offset: int, limit: int) -> PageSlice:
    """A page of a board that is read from its start. Raises IndexUnavailable where the page ends
    too far down for that.
    """
    rows_max = limit if offset == 0 else min(offset + limit, TOP_ROWS_MAX)
    found = await read.ask(WINDOW, read.stops(), **span(b"", 0, rows_max, KeyRange()))
    rows = found.below
    if len(rows) < rows_max:
        view = read.view_of_all(len(rows), found.instant)
    elif rows_max < offset + limit:
        raise IndexUnavailable(read.shards)
    else:
        view = read.view(found, RoughCounts.of([]))
    before = min(offset, len(rows))
    return PageSlice(before, rows[before : before + limit], view)
