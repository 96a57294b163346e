"""How many entries of a season were written since a snapshot: by so many its counts can be off."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache

from core.ports import Clock
from core.snapshots import Snapshot
from storage.pool import Pool, query
from storage.rank_statements import WRITES
from storage.statement import Statement

_FRESH_S_MAX: Final = 0.25
_FRESH_SHARE: Final = 10
"""What was seen holds for so many times as long as it took to look, which is a few ms unless very
much is written: so no more than a tenth of a connection is spent on a season.
"""
_SEASONS_MAX: Final = 1_000
_TRANSACTIONS_MAX: Final = 2_000
"""More of them since a snapshot make counting them dearer than what the snapshot saves."""

_Asked = tuple[int, int, bytes]


@dataclass(frozen=True, slots=True)
class Writes:
    """Entries written by shard, as of a time of the wall clock; None: that cannot be told. They
    bound the states of `least_ms` and later.
    """

    counts: Mapping[int, int] | None
    as_of_ms: int
    least_ms: int = 0


class RecentWrites:
    """Looks into the outbox, in its own time for each season; concurrent callers share a look.
    `statement` is how a server names its ledger that cannot do so as a primary does.
    """

    def __init__(
        self, pool: Pool, clock: Clock, *, timeout_s: float, statement: Statement = WRITES
    ) -> None:
        self._statement = statement
        self._pool = pool
        self._clock = clock
        self._timeout_s = timeout_s
        self._known: LRUCache[_Asked, tuple[float, Writes]] = LRUCache(_SEASONS_MAX)
        self._looking: dict[_Asked, asyncio.Task[Writes]] = {}

    async def since(self, snapshot: Snapshot, *, now: bool) -> Writes:
        """Entries of the season that were written by transactions which a snapshot may lack. That
        cannot be told where there are too many, the outbox has forgotten some, or it is another
        ledger. `now`: as of this call, else up to 250 ms old. Raises LedgerUnavailable.
        """
        asked = snapshot.season_number, snapshot.horizon, snapshot.ledger
        if now:
            return await self._look(asked)
        known = self._known.get(asked)
        if known is not None and self._clock.monotonic_s() < known[0]:
            return known[1]
        task = self._looking.get(asked)
        if task is None:
            # Of no caller's deadline: others wait for it, too.
            task = asyncio.create_task(self._look(asked), context=Context())
            self._looking[asked] = task
            task.add_done_callback(lambda done: self._looked(asked, done))
        return await asyncio.shield(task)

    async def _look(self, asked: _Asked) -> Writes:
        season_number, horizon, ledger = asked
        began_s, as_of_ms = self._clock.monotonic_s(), self._clock.now_ms()
        ((told, shards, writes),) = await query(
            self._pool,
            self._statement,
            {
                "season_no": season_number,
                "horizon": str(horizon),
                "ledger": ledger,
                "limit": _TRANSACTIONS_MAX,
            },
            timeout_s=self._timeout_s,
        )
        counts = dict(zip(shards, writes, strict=True)) if told else None
        found = Writes(counts, as_of_ms)
        took_s = self._clock.monotonic_s() - began_s
        self._known[asked] = began_s + min(_FRESH_SHARE * took_s, _FRESH_S_MAX), found
        return found

    def _looked(self, asked: _Asked, task: asyncio.Task[Writes]) -> None:
        self._looking.pop(asked, None)
        if not task.cancelled():
            # Every caller may be gone by now; looking keeps asyncio from logging the failure.
            task.exception()
