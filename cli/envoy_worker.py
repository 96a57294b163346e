"""One of the processes that `standings serve` starts where Envoy is the transport: an Envoy, which
loads `app` from here and runs it as an ASGI application.

Its lifespan is the worker's: Envoy listens when the start is complete, and is ended by us when all
is drained. Ended by somebody else, it takes no more calls, and we record what we have taken in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from bootstrap.log import configure_logging
from bootstrap.metrics import share_measures
from bootstrap.settings import Settings
from cli.envoy_hand_over import HandOver, taken_over

_HAND_OVER: Final[HandOver] = taken_over()
_SETTINGS: Final = Settings.load()
configure_logging(_SETTINGS.log, lambda: {"slot": _HAND_OVER.slot})
# Before what measures is loaded.
share_measures(_SETTINGS.state.directory / "metrics", _HAND_OVER.slot)

from cli.working import about, work  # noqa: E402
from server import event_loop  # noqa: E402
from server.transport.asgi import Send  # noqa: E402
from server.transport.envoy import Door  # noqa: E402
from server.transport.presence import Receive  # noqa: E402
from server.worker_link import WorkerLink  # noqa: E402

_log = logging.getLogger(__name__)
event_loop.spare_collector()


class Worker:
    """The ASGI application."""

    def __init__(self) -> None:
        self._door = Door(_HAND_OVER.admin)
        self._ending = asyncio.Event()
        self._hurry = asyncio.Event()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """A call, or the lifespan."""
        if scope["type"] == "http":
            await self._door(scope, receive, send)
        else:
            await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        life = asyncio.create_task(self._work())
        opened = asyncio.create_task(self._door.opened.wait())
        await asyncio.wait((life, opened), return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            opened.cancel()
            await send({"type": "lifespan.startup.failed", "message": str(life.exception() or "")})
            return
        life.add_done_callback(_end_envoy)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if not life.done():
            # Envoy is ending: there is nobody left to be patient with, and to be told to end once
            # more would kill it on its way.
            life.remove_done_callback(_end_envoy)
            self._hurry.set()
            self._ending.set()
        with contextlib.suppress(Exception):  # It is logged where it ends Envoy.
            await life
        await send({"type": "lifespan.shutdown.complete"})

    async def _work(self) -> None:
        configure_logging(_SETTINGS.log, partial(about, _HAND_OVER.slot))
        supervisor = WorkerLink(_HAND_OVER.link)
        supervisor.end_with_supervisor()
        await work(
            _SETTINGS,
            supervisor,
            _HAND_OVER.slot,
            with_jobs=_HAND_OVER.jobs,
            listener=self._door.listener,
            ends=(self._ending,),
            hurry=self._hurry,
        )


def _end_envoy(life: asyncio.Task[None]) -> None:
    """Its own way to end: it asks us once more, and has nothing left to do."""
    if not life.cancelled() and (error := life.exception()) is not None:
        _log.critical("the worker has failed", exc_info=error)
    os.kill(os.getpid(), signal.SIGTERM)


sys.executable = _HAND_OVER.python  # Envoy knows of no interpreter to start children with.
app: Final = Worker()
