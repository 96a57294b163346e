"""core.ports.EntryReads from snapshots: what is left when neither store answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import IndexUnavailable, ReadBehind
from core.ordering import KEY_BYTES
from core.ports import Clock, Freshness, IndexedEntry, IndexView, KeyRange, PageSlice, Window
from core.snapshot_ports import Snapshots
from core.snapshots import RoughCounts, Snapshot, user_of
from core.types import ALL_SHARDS, Source, shard_of

SNAPSHOT_AGE_S_MAX: Final = 300.0


@dataclass(frozen=True, slots=True)
class SnapshotIndex:
    """The first 1,000 entries of a season exactly as they were, and counts within their bounds.

    Who is not among them may exist or not: such a user is unavailable, never absent.
    """

    snapshots: Snapshots
    clock: Clock
    age_s_max: float = SNAPSHOT_AGE_S_MAX

    async def users(
        self, season_number: int, user_ids: Sequence[int], *, cutoff_bytes: int, fresh: Freshness
    ) -> tuple[Mapping[int, IndexedEntry], IndexView]:
        """As core.ports.EntryReads.users; a user's entry is told among the first ones only."""
        shards = sorted(set(map(shard_of, user_ids)))
        snapshot = self._newest(season_number, shards, fresh)
        known = {
            user_of(snapshot.top.rows[place][0]): snapshot.top.rows[place]
            for shard in shards
            for place in snapshot.top.places[shard]
        }
        lacking = {shard_of(user_id) for user_id in user_ids if user_id not in known}
        if lacking:
            raise IndexUnavailable(lacking)
        found = {
            user_id: IndexedEntry(
                *known[user_id],
                snapshot.top.before(known[user_id][0][:cutoff_bytes], shard_of(user_id)),
            )
            for user_id in user_ids
        }
        return found, _view(snapshot, shards)

    async def count_before(
        self,
        season_number: int,
        cutoffs: Sequence[bytes],
        *,
        shards: Sequence[int],
        fresh: Freshness,
    ) -> tuple[Sequence[Sequence[int]], IndexView]:
        """As core.ports.EntryReads.count_before; of any place."""
        snapshot = self._newest(season_number, shards, fresh)
        counts = _counts(snapshot, cutoffs, shards)
        return counts.shards, _view(snapshot, shards, counts)

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
        """As core.ports.EntryReads.window, where all of it is among the first entries."""
        snapshot = self._newest(season_number, shards, fresh)
        top, asked = snapshot.top, frozenset(shards)
        inside = [
            row
            for row in top.rows[top.place(within.low) :]
            if (not within.high or row[0] < within.high) and shard_of(user_of(row[0])) in asked
        ]
        better = [row for row in inside if row[0] < point]
        worse = inside[len(better) :][:below]
        ends_here = bool(within.high) and top.reaches(within.high)
        if not top.reaches(point) or (len(worse) < below and not top.whole and not ends_here):
            raise IndexUnavailable(asked)
        before = sum(top.before(point, shard) for shard in shards)
        nearest = better[max(0, len(better) - above) :]
        return Window(before, nearest, worse, _view(snapshot, shards))

    async def window_of(
        self, season_number: int, user_id: int, *, above: int, below: int, fresh: Freshness
    ) -> tuple[IndexedEntry, Window] | None:
        """As core.ports.EntryReads.window_of, where all of it is among the first entries."""
        entries, _ = await self.users(season_number, [user_id], cutoff_bytes=KEY_BYTES, fresh=fresh)
        own = entries[user_id]
        around = await self.window(
            season_number,
            own.key,
            above=above,
            below=below + 1,
            within=KeyRange(),
            fresh=fresh,
        )
        if not around.below or around.below[0][0] != own.key:
            # Another snapshot has come in between, and the user has moved.
            raise IndexUnavailable(ALL_SHARDS)
        return own, Window(around.before, around.above, around.below[1:], around.view)

    async def page_at(
        self, season_number: int, *, offset: int, limit: int, fresh: Freshness
    ) -> PageSlice:
        """As core.ports.EntryReads.page_at, where it ends among the first entries."""
        snapshot = self._newest(season_number, ALL_SHARDS, fresh)
        rows = snapshot.top.rows
        if offset + limit > len(rows) and not snapshot.top.whole:
            raise IndexUnavailable(ALL_SHARDS)
        before = min(offset, len(rows))
        view = _view(snapshot, ALL_SHARDS)
        return PageSlice(before, rows[before : before + limit], view)

    def _newest(self, season_number: int, shards: Collection[int], fresh: Freshness) -> Snapshot:
        """Raises IndexUnavailable without one of an age that may be told, and ReadBehind where it
        may lack a transaction that has to be shown.
        """
        snapshot = self.snapshots.newest(season_number)
        if snapshot is None or self._age_s(snapshot) > self.age_s_max:
            raise IndexUnavailable(shards)
        # Ids of another ledger say nothing.
        horizon = snapshot.horizon if snapshot.ledger.startswith(fresh.ledger) else 0
        behind = [
            shard for shard in shards if any(xid >= horizon for xid in fresh.xids.get(shard, ()))
        ]
        if behind:
            raise ReadBehind(behind)
        return snapshot

    def _age_s(self, snapshot: Snapshot) -> float:
        return (self.clock.now_ms() - snapshot.made_ms) / 1000


def _counts(snapshot: Snapshot, cutoffs: Sequence[bytes], shards: Sequence[int]) -> RoughCounts:
    return RoughCounts.of(
        [[snapshot.bounds(cutoff, shard) for cutoff in cutoffs] for shard in shards]
    )


def _view(
    snapshot: Snapshot, shards: Collection[int], counts: RoughCounts | None = None
) -> IndexView:
    return IndexView(
        epoch=snapshot.epoch,
        entry_count=snapshot.entry_count(shards),
        caught_up_ms=snapshot.caught_up_ms,
        source=Source.SNAPSHOT,
        missing=frozenset(shards),
        fewer=counts.fewer if counts else 0,
        more=counts.more if counts else 0,
        snapshot_ms=snapshot.made_ms,
    )
