"""Snapshots as files that the workers of a machine share, one a season."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cachetools import LRUCache

from bootstrap.state_files import file_stamp, replace_file
from bootstrap.used_boards import KEPT_S, forget_boards_before, seasons_used_since
from core.ports import Clock
from core.snapshots import Snapshot, SnapshotBroken, decode_snapshot, encode_snapshot

_SEASONS_MAX: Final = 64
"""Snapshots that a worker holds ready: some 0.5 MB each."""
_USED_S: Final = 60.0
_SYNC_S: Final = 60.0
"""How much of its last snapshots a machine may lose when its power fails."""

_log = logging.getLogger(__name__)


class SnapshotFiles:
    """The `Snapshots` and `SnapshotStore` ports on a directory."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._snapshots = directory / "snapshots"
        self._snapshots.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._read: LRUCache[int, tuple[tuple[int, int], Snapshot | None]] = LRUCache(_SEASONS_MAX)
        self._synced_s: dict[int, float] = {}

    def newest(self, season_number: int) -> Snapshot | None:
        """See `Snapshots.newest`. A file that is broken counts as none."""
        path = self._path(season_number)
        stamp = file_stamp(path)
        if stamp is None:
            return None
        known = self._read.get(season_number)
        if known is None or known[0] != stamp:
            known = (stamp, _decoded(path))
            self._read[season_number] = known
        return known[1]

    async def due(self, *, limit: int) -> Sequence[int]:
        """See `SnapshotStore.due`."""
        return await asyncio.to_thread(self._due, limit)

    async def keep(self, snapshot: Snapshot) -> None:
        """See `SnapshotStore.keep`. Where there is no room it is logged, and the old one stays."""
        number = snapshot.season_number
        now_s = self._clock.monotonic_s()
        sync = now_s - self._synced_s.get(number, -_SYNC_S) >= _SYNC_S
        try:
            await asyncio.to_thread(
                replace_file, self._path(number), encode_snapshot(snapshot), sync=sync
            )
        except OSError as error:
            _log.warning("a snapshot cannot be kept", extra={"reason": error.strerror})
            return
        if sync:
            self._synced_s[number] = now_s

    def _path(self, season_number: int) -> Path:
        return self._snapshots / f"{season_number}.snapshot"

    def _due(self, limit: int) -> Sequence[int]:
        now_s = self._clock.now_ms() / 1000
        used = seasons_used_since(self._directory, now_s - _USED_S)
        stamps = {number: file_stamp(self._path(number)) or (0, 0) for number in used}
        self._forget_before(now_s - KEPT_S)
        forget_boards_before(self._directory, now_s - KEPT_S)
        return sorted(used, key=lambda number: stamps[number])[:limit]

    def _forget_before(self, oldest_s: float) -> None:
        for path in self._snapshots.iterdir():
            stamp = file_stamp(path)
            if stamp is not None and stamp[0] / 1e9 < oldest_s:
                path.unlink(missing_ok=True)
                self._synced_s.pop(_number(path), None)


def _number(path: Path) -> int:
    return int(path.stem) if path.stem.isdigit() else 0


def _decoded(path: Path) -> Snapshot | None:
    try:
        return decode_snapshot(path.read_bytes())
    except (OSError, SnapshotBroken):
        _log.warning("a snapshot cannot be read", extra={"file": path.name})
        return None
