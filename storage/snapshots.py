"""Snapshots of a season, taken of PostgreSQL while the index is away."""

from __future__ import annotations

from typing import Final

from core.ports import Clock, KeyRange, LedgerHistory
from core.snapshots import STEPS, TOP_ROWS_MAX, Sketch, Snapshot, Top
from core.types import ALL_SHARDS
from storage.pool import Pool, query
from storage.rank_season import SeasonRead, span
from storage.rank_sources import PrimarySource
from storage.rank_statements import SKETCH, WINDOW

_TIMEOUT_S: Final = 1.0
"""For one shard: some million entries. Larger ones have no snapshots while the index is away."""


class PostgresSnapshots:
    """The `SnapshotSource` port on PostgreSQL.

    Each shard is of one instant; all of them are from behind the horizon.
    """

    def __init__(self, pool: Pool, history: LedgerHistory, clock: Clock) -> None:
        self._pool = pool
        self._history = history
        self._clock = clock
        self._source = PrimarySource(pool, clock, timeout_s=_TIMEOUT_S)

    async def take(self, season_number: int) -> Snapshot:
        """See `SnapshotSource.take`. Cost: 18 round trips, and the whole order of the season is
        read: some 150 ms a million entries.
        """
        made_ms = self._clock.now_ms()
        point = await self._history.point()
        read = SeasonRead(self._source, season_number, ALL_SHARDS, None, _TIMEOUT_S)
        nothing = dict.fromkeys(ALL_SHARDS, b"")
        top = await read.ask(WINDOW, nothing, **span(b"", 0, TOP_ROWS_MAX, KeyRange()))
        sketches = [await self._sketch(season_number, shard) for shard in ALL_SHARDS]
        return Snapshot(
            season_number=season_number,
            made_ms=made_ms,
            read_ms=self._clock.now_ms() + 1,
            caught_up_ms=made_ms,
            horizon=point.horizon,
            ledger=point.ledger,
            epoch=0,
            sketches=sketches,
            top=Top(top.below, whole=len(top.below) < TOP_ROWS_MAX),
        )

    async def _sketch(self, season_number: int, shard: int) -> Sketch:
        ((count, ranks, keys),) = await query(
            self._pool,
            SKETCH,
            {"season_no": season_number, "shard": shard, "steps": STEPS},
            timeout_s=_TIMEOUT_S,
        )
        return Sketch(count, tuple(ranks) if count else (), keys or b"")
