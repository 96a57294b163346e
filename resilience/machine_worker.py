"""A worker's part in the file of its machine: it acts on what is set, and says what it is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Final

from resilience.breaker import State
from resilience.breakers import Breakers
from resilience.machine import MachineBusy, MachineFile
from resilience.machine_lines import Reading

LOOK_S: Final = 0.05
"""How often a worker looks: what is set is in force everywhere within twice that."""
_TELL_S: Final = 0.25
"""How often it tells its breakers' states while nobody sets anything."""


class MachineWorker:
    """One worker's line in the file."""

    def __init__(self, file: MachineFile, breakers: Breakers, slot: int = 0) -> None:
        """Takes the line of its slot, or the next free one for as long as a worker that it is to
        replace has that. Raises MachineBusy.
        """
        self._file = file
        self._breakers = breakers
        self._slot = slot
        self._told_s = 0.0
        self._seen = -1
        self._line = file.claim(slot)

    async def run(self) -> None:
        """Looks until it is cancelled; then the line is gone."""
        try:
            while True:
                self.tick()
                await asyncio.sleep(LOOK_S)
        finally:
            self._file.leave(self._line)

    def tick(self) -> None:
        """One look. What it says to have seen, its breakers act on."""
        now_s = time.monotonic()
        if self._file.generation == self._seen and now_s - self._told_s < _TELL_S:
            return
        seen = self._file.refresh()
        if self._line != self._slot:
            self._move()
        # They take what is set before they tell how they are.
        self._file.say(self._line, seen, readings_of(self._breakers))
        self._seen, self._told_s = seen, now_s

    def _move(self) -> None:
        """Takes its own line if that has become free."""
        with contextlib.suppress(MachineBusy):
            line = self._file.claim(self._slot)
            if line != self._line:
                self._file.leave(self._line)
                self._line = line


def readings_of(breakers: Breakers) -> Mapping[str, Reading]:
    """How each breaker and each parent is, for the line of a worker. A parent has the highest
    rates of its own, and the latest end.
    """
    now_ns = time.monotonic_ns()
    readings: dict[str, Reading] = {}
    for report in breakers.reports():
        is_open = report.state is State.OPEN
        until_ns = now_ns + int(report.open_left_s * 1e9) if is_open else 0
        rates = report.rates
        readings[report.name] = Reading(report.state, rates.failure_rate, rates.slow_rate, until_ns)
    for parent in breakers.parents:
        own = [readings[name] for name in breakers.expand(f"{parent}/*")]
        is_open = breakers.is_open(parent)
        readings[parent] = Reading(
            State.OPEN if is_open else State.CLOSED,
            max(reading.failure_rate for reading in own),
            max(reading.slow_rate for reading in own),
            max(reading.open_until_ns for reading in own) if is_open else 0,
        )
    return readings
