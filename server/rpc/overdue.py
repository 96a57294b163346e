"""Cancels what has run out of time, with one timer for all calls together.

A timer of its own for every call, as asyncio.timeout makes it, was a tenth of what a whole unary
call costs. Deadlines of calls are not exact anyway: a call may end up to TICK_S late.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from math import inf
from typing import Any, Final

TICK_S: Final = 0.01


@dataclass(slots=True, eq=False)
class Limit:
    """One task and when its time is spent, on the clock of time.monotonic."""

    task: asyncio.Task[Any]
    end_s: float
    cancelling: int
    expired: bool = False

    def caused(self) -> bool:
        """Whether the CancelledError that was just caught is this limit's doing and no one's else;
        if so, the task is no longer being cancelled.
        """
        return self.expired and self.task.uncancel() <= self.cancelling


class Overdue:
    """The limits of all calls in progress. Looks at them every TICK_S while there are any."""

    def __init__(self) -> None:
        self._limits: set[Limit] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """Of the limits there are. To find the running one is a system call."""
        self._first_s = inf
        """No limit that may still expire ends earlier."""

    def enter(self, end_s: float) -> Limit:
        """Limits the current task; give the limit back with leave."""
        task = asyncio.current_task(self._loop if self._limits else None)
        if task is None:
            raise RuntimeError("calls run in tasks")
        limit = Limit(task, end_s, task.cancelling())
        self._limits.add(limit)
        self._first_s = min(self._first_s, end_s)
        if self._timer is None:
            self._loop = task.get_loop()
            self._timer = self._loop.call_later(TICK_S, self._tick)
        return limit

    def leave(self, limit: Limit) -> None:
        """Ends a limit."""
        self._limits.discard(limit)

    def _tick(self) -> None:
        now_s = time.monotonic()
        if self._first_s <= now_s:
            self._expire(now_s)
        self._timer = None
        if self._limits:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _expire(self, now_s: float) -> None:
        self._first_s = inf
        for limit in self._limits:
            if limit.expired:
                continue
            if limit.end_s <= now_s:
                limit.expired = True
                limit.task.cancel()
            else:
                self._first_s = min(self._first_s, limit.end_s)
