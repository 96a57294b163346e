"""How many calls of a kind may be under way at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from resilience.errors import BulkheadFull


class Bulkhead:
    """Room for `running_max` calls; `waiting_max` more may wait until some of it is free."""

    def __init__(self, running_max: int, waiting_max: int) -> None:
        self._room = asyncio.Semaphore(running_max)
        self._waiting_max = waiting_max
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Calls that wait now."""
        return self._waiting

    @asynccontextmanager
    async def room(self, timeout_s: float) -> AsyncIterator[None]:
        """A place, first come, first served, until it is left. Raises BulkheadFull where nobody
        more may wait, and after waiting for `timeout_s`.
        """
        if self._room.locked():
            if self._waiting >= self._waiting_max:
                raise BulkheadFull
            self._waiting += 1
            try:
                async with asyncio.timeout(timeout_s):
                    await self._room.acquire()
            except TimeoutError as error:
                raise BulkheadFull from error
            finally:
                self._waiting -= 1
        else:
            await self._room.acquire()
        try:
            yield
        finally:
            self._room.release()
