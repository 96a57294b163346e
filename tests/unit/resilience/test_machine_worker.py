"""A worker acts on what stands in the file of its machine, and tells how its breakers are."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resilience.breaker import State
from resilience.errors import CircuitOpen
from resilience.faults import Fault, FaultKind
from resilience.machine import MachineFile
from resilience.machine_lines import WorkerLine, start_of
from resilience.machine_slots import Setting
from resilience.machine_worker import MachineWorker
from resilience.overrides import Mode
from tests.unit.resilience.making import some_breakers, trip

NAMES = ("postgres", "postgres/read", "redis", "redis/shard-00", "redis/shard-01")
LEAVES = [name for name in NAMES if "/" in name]
SHARD = "redis/shard-00"


def setting(kind: int) -> Setting:
    """A setting of a minute."""
    return Setting(kind, time.monotonic_ns() + 60 * 10**9, 0, 1, 7, "reason", "actor")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[MachineFile]:
    """The file of a new machine."""
    opened = MachineFile(tmp_path, NAMES)
    yield opened
    opened.close()


def test_breakers_take_what_is_set(file: MachineFile) -> None:
    """Modes, of parents too, and faults: by the time the worker says that it has seen them."""
    breakers = some_breakers(*LEAVES, clock=time.monotonic, wishes=file)  # type: ignore[arg-type]
    worker = MachineWorker(file, breakers)
    file.set_overrides({"redis": setting(Mode.FORCED_OPEN)})
    generation = file.set_faults({"postgres/read": setting(FaultKind.ERROR)})
    worker.tick()

    assert [line.seen for line in file.workers()] == [generation]
    with pytest.raises(CircuitOpen):
        breakers[SHARD].admit()
    assert breakers["postgres/read"].fault == Fault(FaultKind.ERROR, 1.0)


def test_readings_tell_how_breakers_are(file: MachineFile) -> None:
    """An open one with its rate and its end; its parent only when most are open, with the worst."""
    breakers = some_breakers(*LEAVES, clock=time.monotonic)
    worker = MachineWorker(file, breakers)
    trip(breakers[SHARD])
    worker.tick()
    readings = file.workers()[0].readings

    assert (readings[SHARD].state, readings[SHARD].failure_rate) == (State.OPEN, 1.0)
    assert (readings[SHARD].open_until_ns - time.monotonic_ns()) / 1e9 == pytest.approx(1, abs=0.5)
    assert (readings["redis"].state, readings["redis"].failure_rate) == (State.CLOSED, 1.0)
    assert readings["redis/shard-01"].state == readings["postgres"].state == State.CLOSED
    trip(breakers["redis/shard-01"])
    worker._told_s = 0
    worker.tick()
    readings = file.workers()[0].readings
    assert readings["redis"].state == State.OPEN
    assert readings["redis"].open_until_ns >= readings[SHARD].open_until_ns


def test_a_successor_takes_its_slot_when_it_is_free(file: MachineFile) -> None:
    """While the worker that it replaces is there, it has another line."""
    other = os.getppid()
    before = WorkerLine(0, other, start_of(other) or 0, 0, time.monotonic_ns(), {})
    file._lines.write(before)
    worker = MachineWorker(file, some_breakers(*LEAVES, clock=time.monotonic))
    worker.tick()
    assert [(line.worker, line.pid) for line in file.workers()] == [(0, other), (1, os.getpid())]

    file.leave(0)
    worker._told_s = 0
    worker.tick()
    assert [(line.worker, line.pid) for line in file.workers()] == [(0, os.getpid())]
