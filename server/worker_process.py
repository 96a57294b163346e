"""One life of a worker process, as its supervisor sees it: started, ready, silent, ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from server import metrics
from server.worker_link import ALIVE, BEAT_S, READY, STOP

_log = logging.getLogger(__name__)


Arguments: TypeAlias = Callable[[int, int], Sequence[str]]
"""A command, made from a worker's slot and its end of the link."""


@dataclass(frozen=True, slots=True)
class WorkerProgram:
    """What to run as a worker."""

    arguments: Arguments
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How long a worker may take for what, and how much it may grow."""

    start_s: float = 60.0
    """From its start to its being ready."""
    beats_missed_max: int = 12
    """Beats are counted, not seconds: a supervisor that was stopped itself must not take that for
    the workers' silence."""
    stop_s: float = 20.0
    """From its being told to stop to SIGKILL."""
    young_s: float = 10.0
    """Who dies younger is started again later and later."""
    delay_min_s: float = 0.25
    delay_max_s: float = 30.0
    warm_s: float = 300.0
    """At this age its memory is what later growth is compared with."""
    growth_max: float = 1.5
    """By this factor over that it is replaced; 0: never."""


class WorkerProcess:
    """A worker that was started; `ready` and `ended` tell how far it is."""

    def __init__(
        self,
        slot: int,
        process: asyncio.subprocess.Process,
        link: socket.socket,
        limits: WorkerLimits,
    ) -> None:
        self.slot = slot
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.frozen = False
        self._process = process
        self._limits = limits
        self._started_s = time.monotonic()
        self._missed = 0
        self._memory_bytes = self._warm_bytes = 0
        self._link = link
        self._life = asyncio.create_task(self._live(link))

    @classmethod
    async def start(cls, slot: int, program: WorkerProgram, limits: WorkerLimits) -> WorkerProcess:
        """Starts one and looks after it until it has ended. It is exec'd, never forked alone:
        a fork takes locks along that nobody will open.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *program.arguments(slot, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                env=program.environment,
                pass_fds=(theirs.fileno(),),
                # What any Python ignores, SIGXFSZ above all, an Envoy ignores only if it is told so
                # here: it would die of the first file that may not grow.
                restore_signals=False,
                # Ctrl-C in a terminal goes to a whole session; workers are stopped in order.
                start_new_session=True,
            )
        worker = cls(slot, process, ours, limits)
        _log.info("worker started", extra=worker.described())
        return worker

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; else its exit code, or minus the signal that ended it."""
        return self._process.returncode

    @property
    def age_s(self) -> float:
        """The time since its start."""
        return time.monotonic() - self._started_s

    @property
    def grown(self) -> bool:
        """Whether it holds much more memory than when it was warm."""
        warm_bytes, growth_max = self._warm_bytes, self._limits.growth_max
        return 0 < warm_bytes * growth_max < self._memory_bytes

    def described(self, **more: object) -> dict[str, object]:
        """The worker, for a log line."""
        return {"slot": self.slot, "pid": self.pid, **more}

    async def readied(self) -> bool:
        """Waits until the worker serves; False when it ended before it did."""
        waits = [asyncio.create_task(event.wait()) for event in (self.ready, self.ended)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self.ready.is_set()

    async def retire(self) -> None:
        """Tells the worker to stop, and waits until it has; kills it when that takes too long."""
        # By the link and not by a signal: what else runs in its process may not know ours.
        with contextlib.suppress(OSError):
            self._link.send(STOP)
        try:
            async with asyncio.timeout(self._limits.stop_s):
                await self.ended.wait()
        except TimeoutError:
            _log.error("worker did not stop in time", extra=self.described())
            await self.kill()
        _log.info("worker stopped", extra=self.described(exit_code=self.exit_code))

    async def kill(self) -> None:
        """SIGKILL, and waits for the end."""
        self._kill()
        await self.ended.wait()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _live(self, link: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=link)
        listening = asyncio.create_task(self._listen(reader))
        looking = asyncio.create_task(self._look())
        await self._process.wait()
        looking.cancel()
        # What it said last is on its way; the end of the stream comes with its own.
        await asyncio.wait({listening}, timeout=BEAT_S)
        listening.cancel()
        writer.close()
        self.ended.set()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self._missed = 0
            if line == READY:
                self.ready.set()
                _log.info("worker ready", extra=self.described(after_s=round(self.age_s, 3)))
            elif line.startswith(ALIVE):
                self._remember(int(line.removeprefix(ALIVE)))

    def _remember(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        metrics.WORKER_MEMORY.labels(self.slot).set(memory_bytes)
        if not self._warm_bytes and self.age_s >= self._limits.warm_s:
            self._warm_bytes = memory_bytes

    async def _look(self) -> None:
        """Kills a worker that does not become ready, or has fallen silent."""
        try:
            async with asyncio.timeout(self._limits.start_s):
                await self.ready.wait()
        except TimeoutError:
            _log.error("worker was not ready in time", extra=self.described())
            self._kill()
            return
        self._missed = 0
        while self._missed < self._limits.beats_missed_max:
            self._missed += 1
            await asyncio.sleep(BEAT_S)
        self.frozen = True
        _log.error("worker frozen", extra=self.described())
        self._kill()
