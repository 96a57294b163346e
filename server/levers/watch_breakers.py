"""Follows the breakers of the machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from core.errors import TooManyWatches
from server.levers.list_breakers import ListBreakers
from server.levers.views import BreakerView

LOOK_S: Final = 0.05
WATCHES_MAX: Final = 16
"""Each looks for itself, 20 times a second."""


class WatchBreakers:
    """Answers WatchBreakers."""

    def __init__(self, list_breakers: ListBreakers) -> None:
        self._list_breakers = list_breakers
        self._count = 0

    async def __call__(
        self, ended: Callable[[], bool]
    ) -> AsyncGenerator[Sequence[BreakerView], None]:
        """The breakers now, and again when one is otherwise, until it is `ended`. Nothing is
        queued: who is slow to take one gets what is then. Raises TooManyWatches.
        """
        if self._count >= WATCHES_MAX:
            raise TooManyWatches(f"at most {WATCHES_MAX} of breakers in a worker")
        self._count += 1
        try:
            told: Sequence[BreakerView] = ()
            while not ended():
                views = self._list_breakers()
                if views != told:
                    told = views
                    yield views
                await asyncio.sleep(LOOK_S)
        finally:
            self._count -= 1
