"""Every breaker of the machine, as all of its workers tell it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from core.ports import Clock
from resilience.breaker import State
from resilience.machine import MachineFile
from resilience.machine_lines import WorkerLine
from resilience.machine_slots import Setting
from resilience.overrides import Mode
from server.levers.names import parent_of
from server.levers.views import BreakerView, WorkerView

_SEVERITY: Final = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}
_MOMENT_MS: Final = 100
"""To which the end of an opening is told: two clocks are never read at the same time."""


@dataclass(frozen=True, slots=True)
class ListBreakers:
    """Answers ListBreakers. Cost: a walk through the file, and no wait."""

    machine: MachineFile
    clock: Clock

    def __call__(self, names: Sequence[str] = ()) -> Sequence[BreakerView]:
        """Those of some names, or all, by name."""
        settings = self.machine.overrides()
        workers = self.machine.workers()
        wall_ms = self.clock.now_ms() - time.monotonic_ns() // 1_000_000
        return [
            _view(name, settings, workers, wall_ms) for name in sorted(names or self.machine.names)
        ]

    def state_here(self, name: str) -> int:
        """What this worker makes of a breaker; closed where it has not told yet."""
        for line in self.machine.workers():
            if line.pid == os.getpid():
                return line.readings[name].state
        return State.CLOSED


def _view(
    name: str, settings: Mapping[str, Setting], lines: Sequence[WorkerLine], wall_ms: int
) -> BreakerView:
    workers = [_worker_view(line, name, wall_ms) for line in lines]
    setting = _deciding(name, settings)
    ends_ms = [worker.open_until_ms for worker in workers if worker.open_until_ms is not None]
    return BreakerView(
        name=name,
        state=max(
            (worker.state for worker in workers),
            key=lambda state: _SEVERITY[State(state)],
            default=State.CLOSED,
        ),
        mode=Mode.AUTO if setting is None else Mode(setting.kind),
        failure_rate=max((worker.failure_rate for worker in workers), default=0.0),
        slow_rate=max((worker.slow_rate for worker in workers), default=0.0),
        open_until_ms=max(ends_ms, default=None),
        setting=setting,
        workers=workers,
    )


def _deciding(name: str, settings: Mapping[str, Setting]) -> Setting | None:
    """Of a breaker's own setting and its parent's: FORCED_OPEN before FORCED_CLOSED."""
    found = [settings[key] for key in (name, parent_of(name)) if key in settings]
    return min(found, key=lambda setting: setting.kind, default=None)


def _worker_view(line: WorkerLine, name: str, wall_ms: int) -> WorkerView:
    reading = line.readings[name]
    open_until_ms = None
    if reading.state == State.OPEN and reading.open_until_ns:
        moment_ms = wall_ms + reading.open_until_ns // 1_000_000
        open_until_ms = round(moment_ms / _MOMENT_MS) * _MOMENT_MS
    return WorkerView(
        worker=line.worker,
        pid=line.pid,
        state=reading.state,
        failure_rate=reading.failure_rate,
        slow_rate=reading.slow_rate,
        open_until_ms=open_until_ms,
    )
