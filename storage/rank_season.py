"""One read of a season by rank keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from core.errors import IndexUnavailable
from core.ordering import Item, decode_item
from core.ports import IndexView, KeyRange
from core.snapshots import Bounds, RoughCounts, rows_of
from core.types import Source, shard_of
from storage.pool import Row
from storage.rank_counts import BEHIND_ALL, Counted, Estimate, Head, place_of, stop_of
from storage.rank_sources import Instant, RankSource
from storage.statement import Statement

_HEADS_MAX: Final = 4_000
_HEAD_MAX: Final = 1_000
"""Entries of all shards asked, and of one shard, that are counted rather than told roughly."""

Stops = Mapping[int, bytes | None]


@dataclass(frozen=True, slots=True)
class Found:
    """What one statement told: rows, items, and what is known of counts."""

    above: Sequence[tuple[bytes, bytes]]
    below: Sequence[tuple[bytes, bytes]]
    items: Sequence[Item]
    counted: Counted
    instant: Instant

    def before(self, cutoffs: Sequence[bytes], shards: Sequence[int]) -> list[list[Bounds]]:
        """For each shard, for each cutoff, what stands before it. Raises IndexUnavailable with
        the shards that nothing is known of.
        """
        bounds = {
            shard: [self.counted.before(cutoff, shard) for cutoff in cutoffs] for shard in shards
        }
        unknown = [shard for shard, told in bounds.items() if None in told]
        if unknown:
            raise IndexUnavailable(unknown)
        return [[one for one in told if one is not None] for told in bounds.values()]


@dataclass(frozen=True, slots=True)
class SeasonRead:
    """A read of some shards. `estimate`: what the newest snapshot says, if that can be told."""

    source: RankSource
    season_number: int
    shards: Sequence[int]
    estimate: Estimate | None
    timeout_s: float

    @property
    def counted_max(self) -> int:
        """Entries that are counted in each shard."""
        return min(_HEAD_MAX, _HEADS_MAX // max(1, len(self.shards)))

    def stops(self, cutoffs: Sequence[bytes] = ()) -> Stops:
        """How far to count in each shard, for cutoffs of all of them."""
        limit = self.counted_max
        return {shard: stop_of(self.estimate, shard, cutoffs, limit=limit) for shard in self.shards}

    async def ask(self, statement: Statement, stops: Stops, **parameters: object) -> Found:
        """What a statement tells. Raises IndexUnavailable with shards that have no whole order or
        may lack what the estimate has, LedgerUnavailable. Cost: as RankSource.rows.
        """
        rows, instant = await self._rows(statement, stops, parameters)
        return self._found(rows, instant, stops, _items(rows))

    async def ask_of(
        self,
        statement: Statement,
        user_ids: Sequence[int],
        *,
        everywhere: bool,
        **parameters: object,
    ) -> Found:
        """What a statement tells of users. Counted is what stands before each of them that is not
        too far down: in its own shard, or `everywhere`. Otherwise as `ask`.
        """
        stops = self.stops()
        near = {shard: self._near(shard, stop) for shard, stop in stops.items()}
        places = [_place(near[shard]) for shard in self.shards]
        asked: dict[str, object] = {
            "user_id": list(user_ids),
            "near_key": [key for key, _ in places],
            "near_user": [user for _, user in places],
        }
        rows, instant = await self._rows(statement, stops, {**asked, **parameters})
        items = _items(rows)
        keys: dict[int, list[bytes]] = {}
        for item in items:
            for shard in self.shards if everywhere else (shard_of(item.user_id),):
                last = near[shard]
                if last is None or item.key <= last:
                    keys.setdefault(shard, []).append(item.key)
        # Where the statement has stopped itself.
        stops = {**stops, **{shard: max(own) for shard, own in keys.items()}}
        return self._found(rows, instant, stops, items)

    def _near(self, shard: int, stop: bytes | None) -> bytes | None:
        """The last key that may be counted to; None: any. b"": a shard is counted to its end."""
        if stop is None or self.estimate is None:
            return b""
        return self.estimate.near(shard, self.counted_max)

    async def _rows(
        self, statement: Statement, stops: Stops, parameters: Mapping[str, object]
    ) -> tuple[Sequence[Row], Instant]:
        places = [_place(stops[shard]) for shard in self.shards]
        return await self.source.rows(
            statement,
            {
                "season_no": self.season_number,
                "shard": list(self.shards),
                "stop_key": [key for key, _ in places],
                "stop_user": [user for _, user in places],
                "head": self.counted_max,
                **parameters,
            },
            timeout_s=self.timeout_s,
        )

    def _found(
        self, rows: Sequence[Row], instant: Instant, stops: Stops, items: Sequence[Item]
    ) -> Found:
        if self.estimate is not None and not instant.suits(self.estimate):
            raise IndexUnavailable(self.shards)
        unranked = [shard for kind, shard, _ in rows if kind == "unranked"]
        if unranked:
            raise IndexUnavailable(unranked)
        sides = {kind: blob or b"" for kind, _, blob in rows}
        heads = {
            shard: Head(blob or b"", stops[shard], self.counted_max)
            for kind, shard, blob in rows
            if kind == "head"
        }
        return Found(
            above=rows_of(sides.get("above", b"")),
            below=rows_of(sides.get("below", b"")),
            items=items,
            counted=Counted(heads, self.estimate),
            instant=instant,
        )

    def view(self, found: Found, counts: RoughCounts) -> IndexView:
        """What an answer says of itself. Raises IndexUnavailable where nobody knows about how many
        entries the shards have.
        """
        totals = {shard: found.counted.count(shard) for shard in self.shards}
        unknown = [shard for shard, total in totals.items() if total is None]
        if unknown:
            raise IndexUnavailable(unknown)
        total = RoughCounts.of([[one] for one in totals.values() if one is not None])
        instant = found.instant
        if self.estimate is not None and self.estimate.as_of_ms < instant.as_of_ms:
            instant = replace(instant, as_of_ms=self.estimate.as_of_ms)
        view = self.view_of_all(total.sum(), instant)
        return replace(view, fewer=counts.fewer, more=counts.more)

    def view_of_all(self, count: int, instant: Instant) -> IndexView:
        """What an answer says of itself that knows all entries of these shards."""
        return IndexView(
            epoch=0,
            entry_count=count,
            caught_up_ms=instant.as_of_ms,
            source=Source.DATABASE,
            missing=frozenset(self.shards),
            # Of what only follows the primary, each millisecond is told.
            snapshot_ms=0 if instant.horizon is None else instant.as_of_ms,
        )


def span(point: bytes, above: int, below: int, within: KeyRange) -> dict[str, object]:
    """What the statement of a window is told."""
    at, low = place_of(point), place_of(within.low)
    high = place_of(within.high) if within.high else BEHIND_ALL
    places = {"low": low, "high": high, "start": max(at, low), "end": min(at, high)}
    return {
        "above": above,
        "below": below,
        **{f"{name}_key": key for name, (key, _) in places.items()},
        **{f"{name}_user": user for name, (_, user) in places.items()},
    }


def _items(rows: Sequence[Row]) -> Sequence[Item]:
    return [decode_item(blob) for kind, _, blob in rows if kind == "item"]


def _place(stop: bytes | None) -> tuple[bytes, int]:
    return BEHIND_ALL if stop is None else place_of(stop)
