"""The file of a machine, between processes that are killed and frozen."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from resilience.machine import MachineFile
from resilience.overrides import Mode
from tests.integration.resilience.process import NAME, NAMES, forced

SCRIPT = "tests.integration.resilience.process"
ROOT = Path(__file__).resolve().parents[3]
Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The machine's state."""
    return tmp_path / "state"


@pytest.fixture
async def start(folder: Path) -> AsyncIterator[Start]:
    """Starts a process on the file, and waits until it is ready; all are killed at the end."""
    processes = []

    async def started(*arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", SCRIPT, str(folder), *arguments),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        processes.append(process)
        assert await line_of(process) == ["ready"]
        return process

    yield started
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_of(process: asyncio.subprocess.Process) -> list[str]:
    """The words of the next line that a process says."""
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 20)).decode().split()


async def test_all_workers_act_within_100_ms_until_the_ttl_ends(folder: Path, start: Start) -> None:
    """Two other processes see a mode within 100 ms, and its end at its ttl to 0.1 s."""
    workers = [await start("worker", "1"), await start("worker", "2")]
    file = MachineFile(folder, NAMES)
    began_ns = time.monotonic_ns()
    file.set_overrides({NAME: forced(Mode.FORCED_OPEN, 1.0)})
    for worker in workers:
        mode, seen_ns = await line_of(worker)
        assert (mode, (int(seen_ns) - began_ns) / 1e9) == ("FORCED_OPEN", pytest.approx(0, abs=0.1))
    for worker in workers:
        mode, seen_ns = await line_of(worker)
        assert (mode, (int(seen_ns) - began_ns) / 1e9) == ("AUTO", pytest.approx(1, abs=0.1))
    file.close()


async def test_workers_say_what_they_have_seen(folder: Path, start: Start) -> None:
    """Both acknowledge within 100 ms; a frozen one does not; a killed one is gone."""
    frozen, killed = [await start("worker", "1"), await start("worker", "2")]
    file = MachineFile(folder, NAMES)
    generation = file.set_overrides({NAME: forced(Mode.FORCED_OPEN, 60)})
    await _until(lambda: [line.seen for line in file.workers()] == [generation] * 2, 0.1)

    frozen.send_signal(signal.SIGSTOP)
    killed.kill()
    await killed.wait()
    assert [line.worker for line in file.workers()] == [1]
    later = file.set_overrides({NAME: forced(Mode.FORCED_CLOSED, 60)})
    assert [(line.worker, line.seen) for line in file.workers()] == [(1, generation)]
    frozen.send_signal(signal.SIGCONT)
    await _until(lambda: [line.seen for line in file.workers()] == [later], 1)
    file.close()


async def test_a_restarted_worker_has_the_mode_and_its_slot_again(
    folder: Path, start: Start
) -> None:
    """SIGKILL of every process: the next one finds the mode before it does anything else, and
    takes the slot that became free.
    """
    worker = await start("worker", "1")
    file = MachineFile(folder, NAMES)
    file.set_overrides({NAME: forced(Mode.FORCED_OPEN, 60)})
    await line_of(worker)
    worker.kill()
    await worker.wait()
    again = await start("worker", "1")

    assert (await line_of(again))[0] == "FORCED_OPEN"
    assert [(line.worker, line.pid) for line in file.workers()] == [(1, again.pid)]
    beside = await start("worker", "1")
    assert [(line.worker, line.pid) for line in file.workers()] == [(1, again.pid), (2, beside.pid)]
    file.close()


async def test_killed_writers_leave_no_invalid_mode(folder: Path, start: Start) -> None:
    """Writers killed at any moment, while others read as fast as they can: nobody reads what is
    no mode, or a text that nobody wrote, and the file can be written afterwards.
    """
    readers = [await start("reader") for _ in range(2)]
    file = MachineFile(folder, NAMES)
    generation = file.generation
    for _ in range(8):
        writer = await start("writer")
        seen = file.generation
        await _until(lambda seen=seen: file.generation > seen + 20, 20)  # type: ignore[misc]
        writer.kill()
        await writer.wait()
    for reader in readers:
        reader.kill()
        assert reader.stdout is not None
        assert await reader.stdout.read() == b""
    file.set_overrides(dict.fromkeys(NAMES, forced(Mode.FORCED_CLOSED, 60)))

    assert file.generation > generation + 160
    assert {file.mode(name) for name in NAMES} == {Mode.FORCED_CLOSED}
    file.close()


async def _until(holds: Callable[[], bool], timeout_s: float) -> None:
    """Returns when it holds; a busy machine gets a little more time."""
    async with asyncio.timeout(timeout_s + 0.2):
        while not holds():  # noqa: ASYNC110  # other processes tell no event
            await asyncio.sleep(0.002)
