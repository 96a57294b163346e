"""How the 16 shards of the index stand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import StandingsError
from core.ports import Clock, IndexKeeping, LedgerHistory, ShardStatus
from core.types import ShardReport, ShardState

_SEASONS_S: Final = 0.5
"""How long the list of seasons may take: without it the shards are told all the same."""


@dataclass(frozen=True, slots=True)
class ListShards:
    """Answers ListShards."""

    history: LedgerHistory
    keeping: IndexKeeping
    clock: Clock

    async def __call__(self) -> Sequence[ShardReport]:
        """All 16, in order; entries are not counted where PostgreSQL does not say which seasons
        there are. Never raises. Cost: a round trip to each store.
        """
        statuses = await self.keeping.shards(await self._season_numbers())
        return [self._report(status) for status in statuses]

    async def _season_numbers(self) -> Sequence[int]:
        try:
            async with asyncio.timeout(_SEASONS_S):
                return await self.history.season_numbers()
        except (StandingsError, TimeoutError):
            return ()

    def _report(self, status: ShardStatus) -> ShardReport:
        lag_ms = None
        if status.checkpoint_time_ms is not None:
            # The checkpoint carries another worker's clock, which may be a little ahead.
            lag_ms = max(0, self.clock.now_ms() - status.checkpoint_time_ms)
        return ShardReport(
            shard=status.shard,
            slot=status.slot,
            node_address=status.node_address,
            entry_count=status.entry_count,
            watermark=status.checkpoint or 0,
            lag_ms=lag_ms,
            state=_state(status),
        )


def _state(status: ShardStatus) -> ShardState:
    if not status.reachable:
        return ShardState.DOWN
    if status.checkpoint is None:
        return ShardState.UNBUILT
    # One that has to be confirmed after a failover does not answer until it is whole, either.
    whole = status.confirmed and not status.building
    return ShardState.READY if whole else ShardState.REBUILDING
