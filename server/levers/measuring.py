"""Measures what operators have set, as every worker sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final

from resilience.faults import FaultKind
from resilience.machine import MachineFile
from resilience.overrides import Mode
from server import metrics

_LOOK_S: Final = 0.25


async def measure_levers(machine: MachineFile) -> None:
    """Measures four times a second until it is cancelled."""
    modes: AbstractSet[tuple[str, str]] = frozenset()
    faults: AbstractSet[tuple[str, str]] = frozenset()
    while True:
        metrics.OVERRIDE_LAG.set(_lag(machine))
        modes = _tell(
            _override,
            modes,
            {(name, Mode(one.kind).name) for name, one in machine.overrides().items()},
        )
        faults = _tell(
            _fault,
            faults,
            {(name, FaultKind(one.kind).name) for name, one in machine.faults().items()},
        )
        await asyncio.sleep(_LOOK_S)


def _tell(
    tell: Callable[[str, str, bool], None],
    before: AbstractSet[tuple[str, str]],
    now: AbstractSet[tuple[str, str]],
) -> AbstractSet[tuple[str, str]]:
    """1 for what is set, and 0 for what is no more: samples in shared files cannot be removed."""
    for name, word in before | now:
        tell(name, word.lower(), (name, word) in now)
    return now


def _override(name: str, mode: str, in_force: bool) -> None:  # noqa: FBT001
    metrics.OVERRIDES.labels(name, mode).set(in_force)


def _fault(target: str, kind: str, in_force: bool) -> None:  # noqa: FBT001
    metrics.FAULTS.labels(target, kind).set(in_force)


def _lag(machine: MachineFile) -> int:
    """How many changes the slowest worker of the machine does not act on yet."""
    generation = machine.generation
    return max((generation - line.seen for line in machine.workers()), default=0)
