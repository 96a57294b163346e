"""Those who come while the event loop is busy, going on together."""

from __future__ import annotations

import asyncio

from core.lull import Lull


class Crowd:
    """Lets callers wait for each other by the rules of `Lull`, and for nothing else."""

    def __init__(self, *, rest_s: float) -> None:
        self._lull = Lull(self._go, rest_s=rest_s)
        self._waiting: list[asyncio.Future[None]] = []

    async def join(self) -> None:
        """Returns when those who come together have come."""
        going: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(going)
        self._lull.come()
        await going

    def _go(self) -> None:
        waiting, self._waiting = self._waiting, []
        count = self._lull.went()
        for going in waiting:
            if not going.done():
                going.set_result(None)
        self._lull.answered(count)
