"""Brings the audit of this machine to PostgreSQL, in one worker of it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from pathlib import Path
from typing import Final

from core.errors import AuditBroken, StandingsError
from core.ship_audit import ShipAudit
from server import metrics

_log = logging.getLogger(__name__)

_ROUND_S: Final = 1.0
"""From the end of a round to the next. One in which nothing is new costs a look at a file."""
_FINISH_S: Final = 2.0
_LOCK: Final = "audit.lock"


class AuditShipping:
    """Ships round after round wherever this worker has the lock of the machine, which ends with its
    process.
    """

    def __init__(self, ship: ShipAudit, directory: Path) -> None:
        self._ship = ship
        self._lock = directory / _LOCK
        self._reason = ""

    async def run(self) -> None:
        """Never returns by itself."""
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                if _is_taken(lock):
                    await self._round()
                await asyncio.sleep(_ROUND_S)
        finally:
            os.close(lock)

    async def finish(self) -> None:
        """Ships what came last, if that takes no longer than 2 s: this machine may be gone for good
        soon. Whichever worker does it, the lock does not matter any more.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_S):
                await self._round()

    async def _round(self) -> None:
        """What fails is logged once, however long it lasts, and made good by a later round."""
        reason = ""
        try:
            await self._ship()
        except StandingsError as error:
            reason = error.reason
        except Exception:  # noqa: BLE001  # a bug in one round must not end the rounds
            reason = "INTERNAL"
            _log.exception("the audit could not be shipped")
        metrics.AUDIT_UNSHIPPED.set(self._ship.unshipped_count)
        metrics.AUDIT_BROKEN.set(reason == AuditBroken.reason)
        if reason and reason != self._reason:
            _log.error("the audit is not shipped to the database", extra={"reason": reason})
        self._reason = reason


def _is_taken(lock: int) -> bool:
    """Whether this process has the lock; it keeps it until it ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
