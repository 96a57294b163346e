"""Keeps a number of workers alive, and replaces them without a gap.

The supervisor serves nothing and speaks no gRPC: what cannot crash it cannot take all workers at
once. Each place of a worker has two slots, so that a successor is ready before its predecessor is
told to stop; the slots 0 to 2 N - 1 are what metrics and shared files know workers by.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from server import metrics
from server.worker_process import WorkerLimits, WorkerProcess, WorkerProgram

_log = logging.getLogger(__name__)

_MEMORY_LOOK_S: Final = 1.0


class WorkersFailed(Exception):
    """The first workers ended before they were ready; they have said why."""


class Supervisor:
    """`count` workers, from the moment at which all are ready until they are drained.

    `on_end` is told the slot of every worker that has ended, before that is used again.
    """

    def __init__(
        self,
        program: WorkerProgram,
        count: int,
        limits: WorkerLimits,
        on_end: Callable[[int], None] = lambda _slot: None,
    ) -> None:
        self._places = [
            _Place(_Starter(program, limits, on_end), (number, number + count), limits)
            for number in range(count)
        ]
        self._limits = limits
        self._roll_asked = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def workers(self) -> tuple[WorkerProcess, ...]:
        """The worker of each place, alive or about to be started again."""
        return tuple(place.worker for place in self._places)

    async def start(self) -> None:
        """Starts all, and returns when all are ready. Raises WorkersFailed."""
        try:
            for place in self._places:
                await place.begin()
            ready = all(await asyncio.gather(*(worker.readied() for worker in self.workers)))
        except BaseException:
            await self._retire_all()
            raise
        if not ready:
            await self._retire_all()
            raise WorkersFailed("the workers could not start")
        self._tasks = [asyncio.create_task(place.keep()) for place in self._places]
        self._tasks.append(asyncio.create_task(self._replace()))

    async def stop(self) -> None:
        """Lets all workers answer what they have taken in, then end; all at the same time."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._retire_all()

    def roll(self) -> None:
        """Replaces every worker, one after another; once more if that is under way already."""
        self._roll_asked.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _retire_all(self) -> None:
        await asyncio.gather(*(place.end() for place in self._places))

    async def _replace(self) -> None:
        """One at a time, whatever the reason: two that start at once could starve the others."""
        while True:
            try:
                async with asyncio.timeout(_MEMORY_LOOK_S):
                    await self._roll_asked.wait()
            except TimeoutError:
                await self._replace_grown()
                continue
            self._roll_asked.clear()
            for place in self._places:
                await place.replace("asked")

    async def _replace_grown(self) -> None:
        for place in self._places:
            if place.worker.grown and not await place.replace("memory"):
                await asyncio.sleep(self._limits.delay_max_s)


class _Starter:
    """Starts workers, and knows all that have not ended."""

    def __init__(
        self, program: WorkerProgram, limits: WorkerLimits, on_end: Callable[[int], None]
    ) -> None:
        self._program = program
        self._limits = limits
        self._on_end = on_end
        self._starting: set[asyncio.Task[WorkerProcess]] = set()
        self._running: dict[WorkerProcess, asyncio.Task[None]] = {}

    async def start(self, slot: int) -> WorkerProcess:
        """Starts one; if the caller is cancelled, it is known here all the same."""
        start = asyncio.create_task(self._start(slot))
        self._starting.add(start)
        start.add_done_callback(self._starting.discard)
        return await asyncio.shield(start)

    async def end(self) -> None:
        """Retires all that still run."""
        await asyncio.gather(*self._starting)
        await asyncio.gather(*(worker.retire() for worker in self._running))
        await asyncio.gather(*self._running.values())

    async def _start(self, slot: int) -> WorkerProcess:
        worker = await WorkerProcess.start(slot, self._program, self._limits)
        self._running[worker] = asyncio.create_task(self._forget(worker))
        return worker

    async def _forget(self, worker: WorkerProcess) -> None:
        await worker.ended.wait()
        metrics.WORKER_MEMORY.remove(worker.slot)
        self._on_end(worker.slot)
        del self._running[worker]


class _Place:
    """Where one worker is wanted: started again when it dies, replaced when that is asked for."""

    worker: WorkerProcess

    def __init__(self, starter: _Starter, slots: tuple[int, int], limits: WorkerLimits) -> None:
        self._starter = starter
        self._slots = slots
        self._limits = limits
        self._delay_s = 0.0
        self._changing = asyncio.Lock()

    async def begin(self) -> None:
        """Starts the first worker."""
        self.worker = await self._starter.start(self._slots[0])

    async def end(self) -> None:
        """Retires whatever runs here."""
        await self._starter.end()

    async def keep(self) -> None:
        """Starts a worker again whenever it has died; never returns by itself."""
        while True:
            worker = self.worker
            await worker.ended.wait()
            if worker is not self.worker:
                continue  # replaced: its end was asked for
            _log.error(
                "worker died",
                extra=worker.described(exit_code=worker.exit_code, age_s=round(worker.age_s, 3)),
            )
            metrics.WORKER_ENDS.labels("frozen" if worker.frozen else "died").inc()
            await asyncio.sleep(self._delay_after(worker))
            while not await self._start_again(worker):  # noqa: ASYNC110  # no event tells of room
                await asyncio.sleep(self._limits.delay_max_s)

    async def _start_again(self, dead: WorkerProcess) -> bool:
        """Puts another worker in the place of a dead one; False where the system lets us start
        none.
        """
        async with self._changing:
            if dead is not self.worker:
                return True
            try:
                self.worker = await self._starter.start(dead.slot)
            except OSError:
                _log.exception("worker cannot be started", extra={"slot": dead.slot})
                return False
        return True

    async def replace(self, why: str) -> bool:
        """Starts a successor, and lets the worker go when that is ready; False, and the worker
        stays, when it does not become ready.
        """
        async with self._changing:
            before = self.worker
            first, second = self._slots
            try:
                successor = await self._starter.start(first if before.slot == second else second)
                ready = await successor.readied()
            except OSError:
                _log.exception("worker cannot be started", extra=before.described(why=why))
                return False
            if not ready:
                _log.error("worker stays, its successor failed", extra=before.described(why=why))
                return False
            self.worker = successor
        _log.info("worker replaced", extra=before.described(by=successor.slot, why=why))
        metrics.WORKER_ENDS.labels("replaced").inc()
        await before.retire()
        return True

    def _delay_after(self, worker: WorkerProcess) -> float:
        """None after a long life; after short ones longer and longer, or a worker that cannot live
        would keep a core busy with its starts.
        """
        limits = self._limits
        if worker.age_s >= limits.young_s:
            self._delay_s = 0.0
            return 0.0
        delay_s = self._delay_s
        self._delay_s = min(max(delay_s * 2, limits.delay_min_s), limits.delay_max_s)
        return delay_s
