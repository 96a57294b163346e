"""A table that is drawn again whenever what it shows changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, Generic, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from cli.stopping import stop_signal
from server.admin_client import AdminCallFailed

RowsT = TypeVar("RowsT")

_DRAW_S: Final = 1.0
"""How often it is drawn while nothing changes: what is left of a time does."""
_ASK_AGAIN_S: Final = 1.0


async def refresh(
    rows: Callable[[], AsyncGenerator[RowsT, None]], draw: Callable[[RowsT], RenderableType]
) -> None:
    """Draws what comes until SIGINT or SIGTERM. A server that goes away is waited for; raises
    AdminCallFailed where it refuses.
    """
    stop = stop_signal()
    picture = _Picture(draw)
    with Live(picture.now(), console=Console(), auto_refresh=False) as live:
        following = asyncio.create_task(_follow(rows, picture))
        stopped = asyncio.create_task(stop.wait())
        while not (following.done() or stopped.done()):
            live.update(picture.now(), refresh=True)
            changed = asyncio.create_task(picture.changed.wait())
            await asyncio.wait(
                {following, stopped, changed}, timeout=_DRAW_S, return_when="FIRST_COMPLETED"
            )
            changed.cancel()
            picture.changed.clear()
        stopped.cancel()
        if following.done():
            following.result()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


class _Picture(Generic[RowsT]):
    """What was told last, or that nobody tells anything."""

    def __init__(self, draw: Callable[[RowsT], RenderableType]) -> None:
        self.changed = asyncio.Event()
        self._draw = draw
        self._rows: RowsT | None = None
        self._trouble = ""

    def show(self, rows: RowsT) -> None:
        self._rows, self._trouble = rows, ""
        self.changed.set()

    def lack(self, trouble: str) -> None:
        self._trouble = trouble
        self.changed.set()

    def now(self) -> RenderableType:
        if self._trouble or self._rows is None:
            return Text(self._trouble or "asking")
        return self._draw(self._rows)


async def _follow(
    rows: Callable[[], AsyncGenerator[RowsT, None]], picture: _Picture[RowsT]
) -> None:
    while True:
        try:
            async with aclosing(rows()) as told:
                async for one in told:
                    picture.show(one)
        except AdminCallFailed as error:
            if not error.gone:
                raise
            picture.lack(str(error))
        await asyncio.sleep(_ASK_AGAIN_S)
