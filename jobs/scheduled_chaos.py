"""Breaks a deployment on a schedule, and says in the log what held."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from core.ports import Clock

_log = logging.getLogger(__name__)

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class ScheduledChaos:
    """Runs `play` where the last report is older than `every_days`. `last_ms` is when that was
    made, 0 where there is none.
    """

    every_days: int
    last_ms: Callable[[], int]
    play: Callable[[], Awaitable[bool]]
    clock: Clock

    async def __call__(self) -> None:
        """Returns when the run is over, where one is due; it takes minutes."""
        if self.clock.now_ms() - self.last_ms() < self.every_days * _DAY_MS:
            return
        _log.info("a chaos run begins")
        if await self.play():
            _log.info("a chaos run has held")
        else:
            _log.error("a chaos run has not held: see its report")
