"""Keeps the modes of this machine and of the others of its fleet the same, as well as it goes."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from pathlib import Path
from typing import Final

from core.errors import StandingsError
from core.ports import Clock
from resilience.fleet import FleetOverride, FleetOverrides
from resilience.machine import MachineBusy, MachineFile
from resilience.machine_slots import Setting
from resilience.overrides import Mode

_log = logging.getLogger(__name__)

EXCHANGE_S: Final = 2.0


class FleetSync:
    """Exchanges modes with the fleet: every 2 s in one worker of the machine, and at once in the
    worker that an operator told. Where that cannot be, each machine goes by its own.
    """

    def __init__(
        self, machine: MachineFile, fleet: FleetOverrides, clock: Clock, directory: Path
    ) -> None:
        """`directory` is that of the machine's file: the worker is elected by a lock in it."""
        self._machine = machine
        self._fleet = fleet
        self._clock = clock
        self._lock = directory / "fleet.lock"
        self._telling: asyncio.Task[None] | None = None
        self._again = False
        self._in_touch = True

    async def run(self) -> None:
        """Exchanges wherever this worker is elected, until it is cancelled."""
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                if _is_taken(lock):
                    await self.exchange()
                await asyncio.sleep(EXCHANGE_S)
        finally:
            os.close(lock)
            if self._telling is not None:
                self._telling.cancel()

    def nudge(self) -> None:
        """Tells the fleet soon what was set just now; waits for nothing. Asked for again while it
        is at it, it tells once more afterwards.
        """
        self._again = True
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    async def exchange(self) -> None:
        """One exchange. What fails is logged, and made good by a later one."""
        try:
            theirs = await self._fleet.exchange(self._ours())
            now_ns, now_ms = time.monotonic_ns(), self._clock.now_ms()
            self._machine.merge_overrides(
                {override.name: _setting(override, now_ns, now_ms) for override in theirs}
            )
        except StandingsError as error:
            self._lose_touch(error.reason)
        except MachineBusy:
            self._lose_touch("LEVERS_BUSY")
        except Exception:  # noqa: BLE001  # a bug in one exchange must not end the others
            _log.exception("overrides could not be exchanged with the fleet")
        else:
            self._in_touch = True

    def _lose_touch(self, reason: str) -> None:
        """Logged once, however long it lasts."""
        if self._in_touch:
            _log.warning("overrides are not exchanged with the fleet", extra={"reason": reason})
        self._in_touch = False

    async def _tell(self) -> None:
        while self._again:
            self._again = False
            await self.exchange()

    def _ours(self) -> list[FleetOverride]:
        now_ns = time.monotonic_ns()
        return [
            FleetOverride(
                name=name,
                mode=Mode(setting.kind),
                left_ms=(setting.expire_ns - now_ns) // 1_000_000
                if setting.in_force(now_ns)
                else 0,
                set_time_ms=setting.set_time_ms,
                machine=setting.machine,
                reason=setting.reason,
                actor=setting.actor,
            )
            for name, setting in self._machine.overrides_set().items()
        ]


def _setting(override: FleetOverride, now_ns: int, now_ms: int) -> Setting:
    return Setting(
        kind=override.mode,
        expire_ns=max(0, now_ns + override.left_ms * 1_000_000),
        expire_time_ms=max(0, now_ms + override.left_ms),
        set_time_ms=override.set_time_ms,
        machine=override.machine,
        reason=override.reason,
        actor=override.actor,
    )


def _is_taken(lock: int) -> bool:
    """Whether this process has the lock; it keeps it until it ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
