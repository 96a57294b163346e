"""A TCP proxy that can be told to misbehave, to stand between a server and its stores."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

_HOST: Final = "127.0.0.1"
_PIECE_BYTES: Final = 64 * 1024
_FIRST_BYTES: Final = 512
_CLOSE_S: Final = 2.0


class Mode(Enum):
    """What is done with the bytes of every connection."""

    PASS = "pass"  # noqa: S105 - a word, not a password
    DELAY = "delay"
    """Each piece waits `delay_s`, in order."""
    JITTER = "jitter"
    """Each piece waits up to `delay_s`, in order."""
    BLACKHOLE = "blackhole"
    """Bytes are taken and never delivered; nothing is closed. They are lost also afterwards."""
    RESET = "reset"
    """Connections are torn down, and new ones as well."""
    HALF_CLOSE = "half close"
    """What the server says does not arrive any more, what it is told does."""
    THROTTLE = "throttle"
    """So many bytes a second, per connection and direction."""
    CORRUPT = "corrupt"
    """Now and then noise comes in place of what the server says."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A mode with its measures. `only`: the connections it is for, by their first bytes."""

    mode: Mode = Mode.PASS
    delay_s: float = 0.2
    bytes_per_s: int = 125_000
    corrupt_share: float = 0.01
    """Of the pieces."""
    only: Callable[[bytes], bool] | None = None


@dataclass(eq=False, slots=True)
class _Pair:
    """One connection through the proxy."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    first: bytes = b""

    def abort(self) -> None:
        """Both ends see a reset."""
        for writer in (self.near, self.far):
            _reset(writer)


@dataclass
class Proxy:
    """Listens on a port of its own. `upstream` is asked for each connection where it goes on to."""

    rng: random.Random
    upstream: Callable[[], int]
    fault: Fault = field(default_factory=Fault)
    _pairs: set[_Pair] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        if self._server is None:
            raise RuntimeError("the proxy was not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def address(self) -> str:
        """The same as host:port."""
        return f"{_HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._pairs)

    async def start(self, port: int = 0) -> None:
        """Begins to listen."""
        self._server = await asyncio.start_server(self._serve, _HOST, port)

    async def stop(self) -> None:
        """Ends all connections."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_S)

    def set(self, fault: Fault) -> None:
        """From now on bytes are treated like that, those of open connections too."""
        self.fault = fault
        if fault.mode is Mode.RESET:
            self.cut(fault.only)

    def cut(self, only: Callable[[bytes], bool] | None = None) -> None:
        """Resets open connections."""
        for pair in list(self._pairs):
            if only is None or only(pair.first):
                pair.abort()

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if self.fault.mode is Mode.RESET and self.fault.only is None:
            _reset(near)
            return
        try:
            far_reader, far = await asyncio.open_connection(_HOST, self.upstream())
        except OSError:
            _reset(near)
            return
        pair = _Pair(near, far)
        self._pairs.add(pair)
        tasks = [
            asyncio.create_task(self._pump(pair, reader, far, answer=False)),
            asyncio.create_task(self._pump(pair, far_reader, near, answer=True)),
        ]
        self._tasks.update(tasks)
        try:
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            self._tasks.difference_update(tasks)
            self._pairs.discard(pair)
            near.close()
            far.close()

    async def _pump(
        self,
        pair: _Pair,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        answer: bool,
    ) -> None:
        """Carries one direction until it ends; then the other end is told so."""
        try:
            while data := await reader.read(_PIECE_BYTES):
                if not answer and len(pair.first) < _FIRST_BYTES:
                    pair.first += data[: _FIRST_BYTES - len(pair.first)]
                fault = self.fault if self._concerns(pair) else Fault()
                if fault.mode is Mode.RESET:
                    pair.abort()
                    return
                treated = await self._treated(fault, data, answer=answer)
                if treated:
                    writer.write(treated)
                    await writer.drain()
            if not (answer and self.fault.mode is Mode.HALF_CLOSE):
                writer.write_eof()
        except OSError:
            # Who is gone without a word is gone for the other end, too.
            pair.abort()

    def _concerns(self, pair: _Pair) -> bool:
        return self.fault.only is None or self.fault.only(pair.first)

    async def _treated(self, fault: Fault, data: bytes, *, answer: bool) -> bytes:
        match fault.mode:
            case Mode.DELAY:
                await asyncio.sleep(fault.delay_s)
            case Mode.JITTER:
                await asyncio.sleep(self.rng.uniform(0, fault.delay_s))
            case Mode.THROTTLE:
                await asyncio.sleep(len(data) / fault.bytes_per_s)
            case Mode.BLACKHOLE:
                return b""
            case Mode.HALF_CLOSE if answer:
                return b""
            case Mode.CORRUPT if answer and self.rng.random() < fault.corrupt_share:
                # Nothing begins like that, so it cannot be taken for data.
                return b"\0" + self.rng.randbytes(len(data))
        return data


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection as if the other end had never heard of it."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def is_replication(first: bytes) -> bool:
    """Whether a connection to a Redis node comes from its replica."""
    return b"REPLCONF" in first.upper() or b"PSYNC" in first.upper()
