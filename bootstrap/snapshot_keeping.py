"""Makes snapshots in one worker of the machine."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from pathlib import Path
from typing import Final

from core.keep_snapshots import KeepSnapshots

_LOCK: Final = "snapshots.lock"
_ROUND_S: Final = 2.0
"""From the begin of a round to that of the next; one that takes longer is followed at once by as
long a pause, but no longer than three times this."""

_log = logging.getLogger(__name__)


async def keep_snapshots(keep: KeepSnapshots, directory: Path) -> None:
    """Round after round wherever this worker has the lock of the machine; never returns by itself.
    The lock ends with the process, however it ends.
    """
    lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            began_s = time.monotonic()
            if _is_taken(lock):
                try:
                    await keep()
                except Exception:  # noqa: BLE001  # a bug in one round must not end the rounds
                    _log.exception("snapshots could not be made")
            took_s = time.monotonic() - began_s
            await asyncio.sleep(max(_ROUND_S - took_s, min(took_s, 3 * _ROUND_S)))
    finally:
        os.close(lock)


def _is_taken(lock: int) -> bool:
    """Whether this process has the lock; it keeps it until it ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
