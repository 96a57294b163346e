"""How late this process is, so that it does not take itself for a slow store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_TICK_S: Final = 0.025
_SPAN_S: Final = 0.5


class LoopLag:
    """How late timers of an event loop came lately; 0 while nobody watches it.

    Whatever is measured from a call to its answer has as much in it, once or twice.
    """

    def __init__(self) -> None:
        self._now_s = self._before_s = 0.0
        self._span_end_s = 0.0

    @property
    def recent_s(self) -> float:
        """The latest that a timer came in the last half second, or in the one before."""
        return max(self._now_s, self._before_s)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measures the running loop until it is left. Costs a timer every 25 ms."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def tick(due_s: float) -> None:
            nonlocal timer
            now_s = loop.time()
            self.note(now_s, now_s - due_s)
            timer = loop.call_at(now_s + _TICK_S, tick, now_s + _TICK_S)

        start_s = loop.time() + _TICK_S
        timer = loop.call_at(start_s, tick, start_s)
        try:
            yield
        finally:
            timer.cancel()
            self._now_s = self._before_s = 0.0

    def note(self, now_s: float, late_s: float) -> None:
        """Takes how late a timer came."""
        if now_s >= self._span_end_s:
            self._before_s, self._now_s = self._now_s, 0.0
            self._span_end_s = now_s + _SPAN_S
        self._now_s = max(self._now_s, late_s)
