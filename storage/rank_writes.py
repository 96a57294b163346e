"""How many entries of a season were written since a snapshot: by so many its counts can be off."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import Context
from typing import Final

from cachetools import LRUCache

from core.ports import Clock
from core.snapshots import Snapshot
from storage.pool import Pool, query
from storage.rank_statements import WRITES

_FRESH_S: Final = 0.25
_SEASONS_MAX: Final = 1_000
_TRANSACTIONS_MAX: Final = 2_000
"""More of them since a snapshot make counting them dearer than what the snapshot saves."""

_Asked = tuple[int, int, bytes]
_Writes = Mapping[int, int]


class RecentWrites:
    """Looks into the outbox, at most every 250 ms for each season; concurrent callers share it."""

    def __init__(self, pool: Pool, clock: Clock, *, timeout_s: float) -> None:
        self._pool = pool
        self._clock = clock
        self._timeout_s = timeout_s
        self._known: LRUCache[_Asked, tuple[float, _Writes | None]] = LRUCache(_SEASONS_MAX)
        self._looking: dict[_Asked, asyncio.Task[_Writes | None]] = {}

    async def since(self, snapshot: Snapshot, *, now: bool) -> _Writes | None:
        """Entries of the season that were written by transactions which a snapshot may lack, by
        shard; None where that cannot be told: there are too many, the outbox has forgotten some, or
        it is another ledger. `now`: also what was committed in the last 250 ms. Raises
        LedgerUnavailable.
        """
        asked = snapshot.season_number, snapshot.horizon, snapshot.ledger
        if now:
            return await self._look(asked)
        known = self._known.get(asked)
        if known is not None and self._clock.monotonic_s() - known[0] < _FRESH_S:
            return known[1]
        task = self._looking.get(asked)
        if task is None:
            # Of no caller's deadline: others wait for it, too.
            task = asyncio.create_task(self._look(asked), context=Context())
            self._looking[asked] = task
            task.add_done_callback(lambda done: self._looked(asked, done))
        return await asyncio.shield(task)

    async def _look(self, asked: _Asked) -> _Writes | None:
        season_number, horizon, ledger = asked
        began_s = self._clock.monotonic_s()
        ((told, shards, writes),) = await query(
            self._pool,
            WRITES,
            {
                "season_no": season_number,
                "horizon": str(horizon),
                "ledger": ledger,
                "limit": _TRANSACTIONS_MAX,
            },
            timeout_s=self._timeout_s,
        )
        found = dict(zip(shards, writes, strict=True)) if told else None
        self._known[asked] = began_s, found
        return found

    def _looked(self, asked: _Asked, task: asyncio.Task[_Writes | None]) -> None:
        self._looking.pop(asked, None)
        if not task.cancelled():
            # Every caller may be gone by now; looking keeps asyncio from logging the failure.
            task.exception()
