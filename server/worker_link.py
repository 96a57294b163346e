"""What a worker and its supervisor tell each other over a pair of sockets that only they hold.

The worker writes lines: `ready` once, and `alive BYTES` at every beat of its event loop, with the
memory that it holds; a blocked loop is silent. The supervisor writes `stop` once. Each learns by
the end of the stream that the other is gone, however that ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

BEAT_S: Final = 0.25
"""How often a worker says that it is alive."""
READY: Final = b"ready\n"
ALIVE: Final = b"alive"
STOP: Final = b"stop\n"

_ORPHAN_S: Final = 2.5
"""What a worker has for its end when its supervisor is gone, whatever its loop is doing: the next
supervisor wants the port."""
_PR_SET_PDEATHSIG: Final = 1
_EXIT_ORPHAN: Final = 70


class WorkerLink:
    """The worker's end. `dismissed` is set when the supervisor wants the worker to stop, `orphaned`
    when there is no supervisor any more.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._socket.setblocking(False)
        self.dismissed = asyncio.Event()
        self.orphaned = asyncio.Event()

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Says that the worker is alive, as long as this is open."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._hear)
        heart = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            heart.cancel()
            loop.remove_reader(self._socket)

    def ready(self) -> None:
        """Says that the worker serves."""
        self._say(READY)

    def end_with_supervisor(self) -> None:
        """Makes sure that this process ends soon after its supervisor, with a blocked loop too."""
        if sys.platform.startswith("linux"):
            # A worker that was stopped in its tracks goes on, and meets what is below.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGCONT), 0, 0, 0)
        threading.Thread(target=_outlive, args=(self._socket.fileno(),), daemon=True).start()

    async def _beat(self) -> None:
        while True:
            self._say(b"%s %d\n" % (ALIVE, _memory_bytes()))
            await asyncio.sleep(BEAT_S)

    def _say(self, line: bytes) -> None:
        # A supervisor that does not read, or is gone, is no reason to stop serving here.
        with contextlib.suppress(OSError):
            self._socket.send(line)

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if self._socket.recv(64):
                self.dismissed.set()  # There is nothing else to hear.
                return
            asyncio.get_running_loop().remove_reader(self._socket)
            self.orphaned.set()


def _outlive(descriptor: int) -> None:
    """Ends this process a little after the other end of its link."""
    end = select.poll()
    end.register(descriptor, 0)
    end.poll()
    time.sleep(_ORPHAN_S)
    os._exit(_EXIT_ORPHAN)


def _memory_bytes() -> int:
    """What this process holds in memory; 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
