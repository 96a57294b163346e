"""Keeps snapshots of what is in use, so that something can be told when both stores are gone."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
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
"""What PostgreSQL may be asked in one round: it reads the whole of a season."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class KeepSnapshots:
    """One round after the other; of the index where it has all of a season, else of PostgreSQL."""

    index: SnapshotSource
    database: SnapshotSource
    store: SnapshotStore
    clock: Clock

    async def __call__(self) -> int:
        """Makes up to 200 snapshots, the oldest ones anew; returns how many."""
        made = 0
        database_s = 0.0
        for season_number in await self.store.due(limit=SEASONS_MAX):
            began_s = self.clock.monotonic_s()
            snapshot = await _taken(self.index, season_number)
            if snapshot is None and database_s < _DATABASE_S_MAX:
                asked_s = self.clock.monotonic_s()
                snapshot = await _taken(self.database, season_number)
                database_s += self.clock.monotonic_s() - asked_s
            if snapshot is not None:
                await self.store.keep(snapshot)
                made += 1
            took_s = self.clock.monotonic_s() - began_s
            await asyncio.sleep(min(max(_PAUSE_S, _PAUSE_SHARE * took_s), _PAUSE_S_MAX))
        return made


async def _taken(source: SnapshotSource, season_number: int) -> Snapshot | None:
    try:
        return await source.take(season_number)
    except Unavailable as error:
        _log.debug("no snapshot can be taken", extra={"reason": error.reason})
        return None
