"""Operations in files: seen by every worker, outlived by none."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import replace
from pathlib import Path

from bootstrap.operation_files import OperationFiles
from core.clock import SystemClock
from core.operations import Operation, OperationKind, OperationShard, OperationState

ID = "a" * 32
_WORKER = """
import asyncio, sys, time
from pathlib import Path
from bootstrap.operation_files import OperationFiles
from core.clock import SystemClock
from core.operations import Operation, OperationKind

files = OperationFiles(Path(sys.argv[1]), SystemClock())
operation = Operation(sys.argv[2], OperationKind.REBUILD, SystemClock().now_ms())
asyncio.run(files.begin(operation))
print("begun", flush=True)
time.sleep(60)
"""


def _operation(number: int = 0, *, age_ms: int = 0) -> Operation:
    created_ms = SystemClock().now_ms() - age_ms + number
    return Operation(f"{number:032x}", OperationKind.VERIFY, created_ms)


async def test_each_worker_sees_the_operations_of_the_others(tmp_path: Path) -> None:
    """As they were stored last, and a word left for one reaches whoever runs it."""
    mine, theirs = (OperationFiles(tmp_path, SystemClock()) for _ in range(2))
    operation = _operation()
    await mine.begin(operation)
    assert await theirs.get(operation.operation_id) == operation

    shard = OperationShard("arena", "s1", 3, 7, 6, 1, (42, 58), rebuilt=True)
    grown = replace(operation, done_count=2, shards=(shard,))
    await mine.save(grown)
    await theirs.ask_to_stop(operation.operation_id)

    assert await theirs.get(operation.operation_id) == grown
    assert await mine.must_stop(operation.operation_id)
    ended = replace(grown, state=OperationState.DONE, end_time_ms=1)
    await mine.save(ended)
    assert await theirs.all() == [ended]


async def test_an_operation_whose_worker_died_is_cancelled(tmp_path: Path) -> None:
    """From the moment of its death; until then it runs."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WORKER, str(tmp_path), ID, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    assert await worker.stdout.readline() == b"begun\n"
    files = OperationFiles(tmp_path, SystemClock())
    running = await files.get(ID)

    worker.send_signal(signal.SIGKILL)
    await worker.wait()

    dead = await files.get(ID)
    assert running is not None
    assert running.state is OperationState.RUNNING
    assert dead == replace(running, state=OperationState.CANCELLED)


async def test_what_is_no_name_of_an_operation_is_not_there(tmp_path: Path) -> None:
    """Least of all a way to another file."""
    (tmp_path / "other.json").write_text("{}")
    files = OperationFiles(tmp_path / "operations", SystemClock())

    for name in ("", ID, "../other", "A" * 32):
        assert await files.get(name) is None
    assert await files.all() == []


async def test_a_hundred_are_kept_for_a_day(tmp_path: Path) -> None:
    """The newest ones; those that run are never forgotten."""
    files = OperationFiles(tmp_path, SystemClock())
    old = _operation(500, age_ms=25 * 3600 * 1000)
    for operation in (old, *(_operation(number) for number in range(105))):
        await files.begin(operation)
        if operation.operation_id != _operation(3).operation_id:
            await files.save(replace(operation, state=OperationState.DONE))

    found = await files.all()

    assert old not in found
    assert [one.operation_id for one in found[:2]] == [f"{104:032x}", f"{103:032x}"]
    assert len(found) == 101
    assert found[-1].operation_id == f"{3:032x}"
