"""A worker's part in the file of its machine: it acts on what is set, and says what it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from resilience.machine import MachineFile
from resilience.machine_lines import Reading

LOOK_S: Final = 0.05
"""How often a worker looks: what is set is in force everywhere within twice that."""
_TELL_S: Final = 0.25
"""How often it tells its breakers' states while nobody sets anything."""
_CLOSED: Final = 1
_OPEN: Final = 2


class Rates(Protocol):
    """What a breaker sees of the last seconds."""

    @property
    def failure_rate(self) -> float:
        """The part of the calls that failed."""

    @property
    def slow_rate(self) -> float:
        """The part that were slow."""


class Report(Protocol):
    """How a breaker is."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def state(self) -> int:
        """Closed (1), open (2) or half-open (3)."""

    @property
    def rates(self) -> Rates:
        """What it sees."""

    @property
    def open_left_s(self) -> float:
        """Until it tries again."""


class Told(Protocol):
    """What a worker needs of its breakers."""

    @property
    def parents(self) -> Sequence[str]:
        """The names that stand for several."""

    def look(self) -> None:
        """Takes what is set now."""

    def reports(self) -> Sequence[Report]:
        """How each is."""

    def is_open(self, parent: str) -> bool:
        """Whether most of a parent's let nothing through."""


class MachineWorker:
    """One worker's line in the file."""

    def __init__(self, file: MachineFile, breakers: Told, worker: int = 0) -> None:
        """Takes the line of slot `worker`, or the next free one. Raises MachineBusy."""
        self._file = file
        self._breakers = breakers
        self._told_s = 0.0
        self._seen = -1
        self.worker = file.claim(worker)
        """Its slot on the machine."""

    async def run(self) -> None:
        """Looks until it is cancelled; then the line is gone."""
        try:
            while True:
                self.tick()
                await asyncio.sleep(LOOK_S)
        finally:
            self._file.leave(self.worker)

    def tick(self) -> None:
        """One look. What it says to have seen, its breakers act on."""
        seen = self._file.refresh()
        now_s = time.monotonic()
        if seen != self._seen or now_s - self._told_s >= _TELL_S:
            self._breakers.look()
            self._file.say(self.worker, seen, readings_of(self._breakers))
            self._seen, self._told_s = seen, now_s


def readings_of(breakers: Told) -> Mapping[str, Reading]:
    """How each breaker and each parent is, for the line of a worker. A parent has the highest
    rates of its own, and the latest end.
    """
    now_ns = time.monotonic_ns()
    readings: dict[str, Reading] = {}
    for report in breakers.reports():
        until_ns = now_ns + int(report.open_left_s * 1e9) if report.state == _OPEN else 0
        rates = report.rates
        readings[report.name] = Reading(report.state, rates.failure_rate, rates.slow_rate, until_ns)
    for parent in breakers.parents:
        own = [reading for name, reading in readings.items() if name.startswith(f"{parent}/")]
        is_open = breakers.is_open(parent)
        readings[parent] = Reading(
            _OPEN if is_open else _CLOSED,
            max(reading.failure_rate for reading in own),
            max(reading.slow_rate for reading in own),
            max(reading.open_until_ns for reading in own) if is_open else 0,
        )
    return readings


class _NoBreakers:
    """Nothing is guarded."""

    parents: Sequence[str] = ()

    def look(self) -> None:
        """Nothing."""

    def reports(self) -> Sequence[Report]:
        """None."""
        return ()

    def is_open(self, _parent: str) -> bool:
        """Never."""
        return False


NO_BREAKERS: Final[Told] = _NoBreakers()
