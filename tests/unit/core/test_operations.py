"""Operations begin in a call and go on without it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bootstrap.operation_files import OperationFiles
from core.clock import SystemClock
from core.operations import OperationKind, Operations, OperationState, Progress
from resilience.deadline import DEADLINE_S


async def test_an_operation_outlives_the_call_that_began_it(tmp_path: Path) -> None:
    """A call has some seconds, a big board takes longer: what it does has no deadline."""
    clock = SystemClock()
    operations = Operations(OperationFiles(tmp_path, clock), clock)
    seen: list[float | None] = []

    async def work(progress: Progress) -> None:
        seen.append(DEADLINE_S.get())
        await progress.step(done=1)

    token = DEADLINE_S.set(time.monotonic() + 5)
    try:
        begun = await operations.begin(OperationKind.REBUILD, work)
    finally:
        DEADLINE_S.reset(token)
    await asyncio.gather(*operations.running)

    assert seen == [None]
    assert (await operations.get(begun.operation_id)).state is OperationState.DONE
