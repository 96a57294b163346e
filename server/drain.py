"""The worker's going away: who has to stop reading, and what has to be finished first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Drain:
    """Starts once and never ends. Work handed to `run` goes on when its caller is gone."""

    def __init__(self) -> None:
        self._started = asyncio.Event()
        self._callbacks: set[Callable[[], None]] = set()
        self._work: set[asyncio.Task[Any]] = set()

    @property
    def started(self) -> bool:
        """Whether the worker is going away."""
        return self._started.is_set()

    def start(self) -> None:
        """Tells everybody who asked. A second time, nothing happens."""
        if self.started:
            return
        self._started.set()
        for callback in tuple(self._callbacks):
            callback()

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` at the start, at once if that was before; returns how to unsubscribe."""
        if self.started:
            callback()
        self._callbacks.add(callback)
        return lambda: self._callbacks.discard(callback)

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts work and holds it until it is done; it must not raise."""
        task = asyncio.create_task(work)
        # The loop itself keeps only weak references to tasks.
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def finished(self, timeout_s: float) -> bool:
        """Waits for the work that runs now; False when time ran out. Nothing is cancelled."""
        if not self._work:
            return True
        _, pending = await asyncio.wait(tuple(self._work), timeout=timeout_s)
        return not pending
