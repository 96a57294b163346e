"""Keeps snapshots of what is in use, so that something can be told when both stores are gone."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from math import inf
from typing import Final

from core.errors import Unavailable
from core.ports import Clock
from core.snapshot_ports import SnapshotSource, SnapshotStore
from core.snapshots import Snapshot

SEASONS_MAX: Final = 200
"""In one round."""
_PAUSE_S: Final = 0.005
_PAUSE_S_MAX: Final = 0.05
_PAUSE_SHARE: Final = 4
"""Between two seasons so many times as long as one takes, for whoever else wants something of the
stores: a large board holds up each node of the index for some milliseconds.
"""
_DATABASE_S_MAX: Final = 1.0
"""For how long PostgreSQL may be asked at a stretch: it reads the whole of a season."""
_DATABASE_SHARE: Final = 0.1
"""And what that may come to of the time: it answers for the index meanwhile."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class KeepSnapshots:
    """One round after the other; of the index where it has all of a season, else of PostgreSQL."""

    index: SnapshotSource
    database: SnapshotSource
    store: SnapshotStore
    clock: Clock
    _database_s: float = _DATABASE_S_MAX
    """What is left of its time."""
    _looked_s: float = inf

    async def __call__(self) -> int:
        """Makes up to 200 snapshots, the oldest ones anew; returns how many."""
        made = 0
        for season_number in await self.store.due(limit=SEASONS_MAX):
            began_s = self.clock.monotonic_s()
            snapshot = await _taken(self.index, season_number)
            if snapshot is None and self._may_ask_database():
                asked_s = self.clock.monotonic_s()
                snapshot = await _taken(self.database, season_number)
                self._database_s -= self.clock.monotonic_s() - asked_s
            if snapshot is not None:
                await self.store.keep(snapshot)
                made += 1
            took_s = self.clock.monotonic_s() - began_s
            await asyncio.sleep(min(max(_PAUSE_S, _PAUSE_SHARE * took_s), _PAUSE_S_MAX))
        return made

    def _may_ask_database(self) -> bool:
        now_s = self.clock.monotonic_s()
        earned_s = _DATABASE_SHARE * max(0.0, now_s - self._looked_s)
        self._database_s = min(self._database_s + earned_s, _DATABASE_S_MAX)
        self._looked_s = now_s
        return self._database_s > 0


async def _taken(source: SnapshotSource, season_number: int) -> Snapshot | None:
    try:
        return await source.take(season_number)
    except Unavailable as error:
        _log.debug("no snapshot can be taken", extra={"reason": error.reason})
        return None
