"""The processes of the server under test, as an operator has them: started, signalled, counted."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import grpc

from bootstrap.embedded.child import Child, Command
from bootstrap.embedded.waiting import until
from bootstrap.settings import apart
from chaos.conduct import Vitals
from chaos.metrics import measured

START_S: Final = 30.0
_STOP_S: Final = 20.0
_LOOK_S: Final = 0.25
_SERVING: Final = b"\x08\x01"
"""A HealthCheckResponse whose status is SERVING."""
_LISTEN: Final = "0A"
"""TCP_LISTEN as /proc/net/tcp has it."""
_TASKS: Final = "standings_tasks"
_CALLS: Final = "standings_calls_in_flight"
_PROBES_MOST: Final = "standings_breaker_probes_most"
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Servers:
    """`standings serve` with its workers; `niceness` as the program nice has it."""

    def __init__(
        self,
        environment: Mapping[str, str],
        address: str,
        metrics_address: str,
        log: Path,
        *,
        niceness: int = 0,
    ) -> None:
        self._environment = environment
        self._metrics_address = metrics_address
        self._log = log
        self._niceness = niceness
        self._child: Child | None = None
        self.address = address

    async def start(self) -> None:
        """Starts it and waits until it says that it serves. Raises RuntimeError."""
        nice = ("/usr/bin/nice", "-n", str(self._niceness))
        serve = (*nice, sys.executable, "-P", "-m", "cli", "serve")
        arguments = apart(serve, self._environment)
        self._child = Child(Command(arguments, self._log, signal.SIGKILL))
        if not await until(self.serves, timeout_s=START_S):
            raise RuntimeError(f"the server did not start; {self._child.log_tail()}")

    async def stop(self) -> None:
        """Asks it to stop, and waits."""
        if self._child is not None:
            await self._child.stop(signal.SIGTERM, timeout_s=_STOP_S)

    async def kill(self) -> None:
        """SIGKILL to the process that was started, not to its workers."""
        if self._child is not None:
            await self._child.kill()

    async def revive(self) -> None:
        """Starts it again if it is gone."""
        if self._child is None or not self._child.running:
            await self.start()

    async def serves(self) -> bool:
        """Whether a new connection is answered."""
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.insecure_channel(self.address, options=options) as channel:
            check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/grpc.health.v1.Health/Check"
            )
            try:
                return await check(b"", timeout=1) == _SERVING
            except grpc.aio.AioRpcError:
                return False

    async def whole(self, worker_count: int, *, timeout_s: float) -> bool:
        """Waits for so many workers that listen, and none that is on its way out. Looked at not
        too often: it is no use to slow down what one waits for.
        """
        end_s = time.monotonic() + timeout_s
        port = int(self.address.rpartition(":")[2])
        while len(self.workers()) != worker_count or self._listening(port) < worker_count:
            if time.monotonic() > end_s:
                return False
            await asyncio.sleep(_LOOK_S)
        return await self.serves()

    def workers(self) -> Sequence[int]:
        """Who serves: the children of the process that was started, or itself if it has none."""
        if self._child is None or not self._child.running:
            return []
        return _children(self._child.pid) or [self._child.pid]

    def roll(self) -> None:
        """Asks for every worker to be replaced, one after the other."""
        if self._child is not None:
            self._child.send(signal.SIGHUP)

    def signal(self, worker: int, number: signal.Signals) -> None:
        """Signals one worker; nothing happens if it is gone."""
        with suppress(ProcessLookupError):
            os.kill(worker, number)

    async def vitals(self) -> Vitals:
        """What the workers hold, each on the average. Raises OSError where nobody tells."""
        return await asyncio.to_thread(self._vitals)

    async def calls_in_flight(self) -> int:
        """Calls in progress on the busiest listener of any worker. Raises OSError."""
        return int(await asyncio.to_thread(measured, self._metrics_address, _CALLS))

    async def probes_most(self) -> int:
        """The most probes that a breaker of any worker ever let through at once. Raises OSError."""
        return int(await asyncio.to_thread(measured, self._metrics_address, _PROBES_MOST))

    def _listening(self, port: int) -> int:
        """How many workers listen on a port, each by however many sockets."""
        listeners = {f"socket:[{inode}]" for inode in _listeners(port)}
        return sum(not listeners.isdisjoint(_sockets(worker)) for worker in self.workers())

    def _vitals(self) -> Vitals:
        tasks = measured(self._metrics_address, _TASKS)
        workers = self.workers()
        descriptors = resident = 0
        for worker in workers:
            with suppress(OSError):
                descriptors += len(list(Path(f"/proc/{worker}/fd").iterdir()))
                pages = Path(f"/proc/{worker}/statm").read_text(encoding="ascii").split()[1]
                resident += int(pages) * _PAGE_BYTES
        count = max(1, len(workers))
        return Vitals(descriptors / count, resident / count, tasks / count)


def _children(pid: int) -> Sequence[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            text = stat.read_text(encoding="utf-8", errors="replace")
            # "pid (name) state parent ...": the name may hold blanks and parentheses.
            state, parent = text.rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(stat.parent.name))
    return sorted(found)


def _sockets(pid: int) -> set[str]:
    """What the descriptors of a process lead to, by name."""
    names = set()
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                names.add(str(descriptor.readlink()))
    return names


def _listeners(port: int) -> Sequence[str]:
    """The sockets of this machine that listen on a port, whichever way they write the address."""
    ending = f":{port:04X}"
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]
    ]
    return [line[9] for line in lines if line[1].endswith(ending) and line[3] == _LISTEN]
