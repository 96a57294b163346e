"""What becomes of workers that die, freeze, grow or cannot start; played by a script."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from server.supervisor import Supervisor, WorkersFailed
from server.worker_process import WorkerLimits, WorkerProcess, WorkerProgram
from tests.fixtures.processes import time_until

ACTOR = r"""
import select, socket, sys, time
part, slot, link = sys.argv[1], sys.argv[2], socket.socket(fileno=int(sys.argv[3]))
if part == "unable" or (part == "heir of none" and int(slot) >= 2):
    sys.exit(1)
if part != "never ready":
    link.send(b"ready\n")
if part == "short-lived":
    sys.exit(3)
memory = 100
while True:
    link.send(b"alive %d\n" % memory)
    if part == "stubborn":
        time.sleep(0.05)
    elif select.select([link], [], [], 0.05)[0]:
        sys.exit(0 if link.recv(64) == b"stop\n" else 4)
    memory += 10 if part == "growing" else 0
"""
LIMITS = WorkerLimits(
    start_s=5, stop_s=5, young_s=5, delay_min_s=0.05, delay_max_s=0.2, warm_s=0.3, growth_max=0
)
Logged = Callable[[str], list[logging.LogRecord]]


@asynccontextmanager
async def _supervised(part: str, limits: WorkerLimits = LIMITS) -> AsyncIterator[Supervisor]:
    program = WorkerProgram(
        lambda slot, link: (sys.executable, "-S", "-c", ACTOR, part, str(slot), str(link)), {}
    )
    async with Supervisor(program, 2, limits) as supervisor:
        yield supervisor


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """What was logged under a text."""
    caplog.set_level(logging.INFO)
    return lambda text: [record for record in caplog.records if record.message == text]


def _alive(worker: WorkerProcess) -> bool:
    return Path(f"/proc/{worker.pid}").exists()


async def test_all_are_ready_and_all_are_stopped(logged: Logged) -> None:
    """A start ends when all are ready; an end, when all have ended by themselves."""
    async with _supervised("good") as supervisor:
        workers = supervisor.workers
        assert [0, 1] == [worker.slot for worker in workers]
        assert all(worker.ready.is_set() for worker in workers)

    assert [0, 0] == [worker.exit_code for worker in workers]
    for event in ("worker started", "worker ready", "worker stopped"):
        assert {(w.slot, w.pid) for w in workers} == {(r.slot, r.pid) for r in logged(event)}  # type: ignore[attr-defined]
    assert logged("worker died") == []


async def test_who_cannot_start_stops_the_start() -> None:
    """Workers that end before they were ready are not tried again: an operator has to know."""
    with pytest.raises(WorkersFailed):
        async with _supervised("unable"):
            pass


async def test_who_is_never_ready_stops_the_start(logged: Logged) -> None:
    """Waiting for a first worker has an end."""
    with pytest.raises(WorkersFailed):
        async with _supervised("never ready", replace(LIMITS, start_s=0.3)):
            pass

    assert len(logged("worker was not ready in time")) == 2


async def test_a_dead_worker_is_started_again_at_once(logged: Logged) -> None:
    """In the same slot, while the other worker notices nothing."""
    async with _supervised("good", replace(LIMITS, delay_min_s=60)) as supervisor:
        killed, other = supervisor.workers
        os.kill(killed.pid, signal.SIGKILL)
        await time_until(lambda: supervisor.workers[0].pid != killed.pid)
        await supervisor.workers[0].ready.wait()

        assert supervisor.workers[0].slot == 0
        assert supervisor.workers[1] is other
        (record,) = logged("worker died")
        assert (record.slot, record.exit_code) == (0, -signal.SIGKILL)  # type: ignore[attr-defined]


async def test_who_dies_young_is_started_later_and_later(logged: Logged) -> None:
    """The pauses grow to a limit; who cannot live does not keep a core busy."""
    async with _supervised("short-lived"):
        await time_until(lambda: len(logged("worker started")) >= 14)
        starts = [r.created for r in logged("worker started") if r.slot == 0]  # type: ignore[attr-defined]
    pauses = [after - before for before, after in itertools.pairwise(starts)]

    assert all(pause >= least for pause, least in zip(pauses, (0, 0.05, 0.1, 0.2), strict=False))
    assert pauses[-1] >= 0.2


async def test_a_silent_worker_is_killed(logged: Logged) -> None:
    """Missed beats, not the death, are what is noticed."""
    async with _supervised("good", replace(LIMITS, beats_missed_max=3)) as supervisor:
        frozen = supervisor.workers[1]
        os.kill(frozen.pid, signal.SIGSTOP)
        await frozen.ended.wait()
        await time_until(lambda: supervisor.workers[1] is not frozen)
        await supervisor.workers[1].ready.wait()

    assert frozen.exit_code == -signal.SIGKILL
    assert [frozen.pid] == [record.pid for record in logged("worker frozen")]  # type: ignore[attr-defined]


async def test_a_roll_replaces_one_after_another(logged: Logged) -> None:
    """Each successor is ready before its predecessor is told to stop; slots take turns."""
    async with _supervised("good") as supervisor:
        before = supervisor.workers
        supervisor.roll()
        await time_until(lambda: len(logged("worker stopped")) == 2)
        assert [2, 3] == [worker.slot for worker in supervisor.workers]
        supervisor.roll()
        await time_until(lambda: len(logged("worker stopped")) == 4)
        assert [0, 1] == [worker.slot for worker in supervisor.workers]
        events = [
            (record.message, record.slot)  # type: ignore[attr-defined]
            for text in ("worker ready", "worker replaced", "worker stopped")
            for record in logged(text)
        ]

    assert {0} == {worker.exit_code for worker in before}
    assert events.index(("worker ready", 2)) < events.index(("worker replaced", 0))
    assert logged("worker died") == []


async def test_a_worker_stays_when_its_successor_fails(logged: Logged) -> None:
    """A bad new version takes nothing down."""
    async with _supervised("heir of none") as supervisor:
        before = supervisor.workers
        supervisor.roll()
        await time_until(lambda: len(logged("worker stays, its successor failed")) == 2)

        assert supervisor.workers == before
        assert all(map(_alive, before))


async def test_who_grows_is_replaced(logged: Logged) -> None:
    """By more than the factor over its warm size; the others stay until it is their turn."""
    async with _supervised("growing", replace(LIMITS, growth_max=1.5)) as supervisor:
        before = supervisor.workers
        await time_until(lambda: len(logged("worker replaced")) >= 2)

        assert {"memory"} == {record.why for record in logged("worker replaced")}  # type: ignore[attr-defined]
        assert not set(before) & set(supervisor.workers)


async def test_who_does_not_stop_is_killed(logged: Logged) -> None:
    """After the time for it, with SIGKILL."""
    async with _supervised("stubborn", replace(LIMITS, stop_s=0.2)) as supervisor:
        workers = supervisor.workers

    assert [-signal.SIGKILL] * 2 == [worker.exit_code for worker in workers]
    assert len(logged("worker did not stop in time")) == 2


async def test_the_end_of_a_worker_is_told() -> None:
    """Whoever cleans up after a worker hears of each slot that is free."""
    ended: list[int] = []
    program = WorkerProgram(
        lambda slot, link: (sys.executable, "-S", "-c", ACTOR, "good", str(slot), str(link)), {}
    )
    async with Supervisor(program, 2, LIMITS, on_end=ended.append) as supervisor:
        os.kill(supervisor.workers[0].pid, signal.SIGKILL)
        await time_until(lambda: ended == [0])

    assert sorted(ended) == [0, 0, 1]
