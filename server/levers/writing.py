"""How levers are written, and how it is known that all workers act on them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from core.ports import Clock
from core.types import AuditNote
from resilience.machine import MachineBusy, MachineFile
from resilience.machine_slots import Setting
from server.errors import LeversBusy

ACKNOWLEDGE_S: Final = 1.0
"""How long an answer waits for the workers."""
_ASK_AGAIN_S: Final = 0.01


def setting_of(
    machine: MachineFile,
    clock: Clock,
    kind: int,
    note: AuditNote,
    *,
    ttl_ms: int,
    probability: float = 1.0,
    latency_ms: int = 0,
) -> Setting:
    """A setting that begins now."""
    now_ms = clock.now_ms()
    return Setting(
        kind=kind,
        expire_ns=time.monotonic_ns() + ttl_ms * 1_000_000,
        expire_time_ms=now_ms + ttl_ms,
        set_time_ms=now_ms,
        machine=machine.machine,
        reason=note.reason,
        actor=note.actor,
        probability=probability,
        latency_ms=latency_ms,
    )


async def written(write: Callable[[], int]) -> int:
    """The generation that a write gives; tried again for a second while the file is busy. Raises
    LeversBusy.
    """
    end_s = time.monotonic() + ACKNOWLEDGE_S
    while True:
        try:
            return write()
        except MachineBusy as error:
            if time.monotonic() >= end_s:
                raise LeversBusy from error
        await asyncio.sleep(_ASK_AGAIN_S)


async def acknowledged(
    machine: MachineFile, generation: int
) -> tuple[Sequence[int], Sequence[int]]:
    """The slots of the workers that act on a generation, and of those that do not say so within a
    second.
    """
    end_s = time.monotonic() + ACKNOWLEDGE_S
    while True:
        lines = machine.workers()
        laggards = [line.worker for line in lines if line.seen < generation]
        if not laggards or time.monotonic() >= end_s:
            return [line.worker for line in lines if line.seen >= generation], laggards
        await asyncio.sleep(_ASK_AGAIN_S)
