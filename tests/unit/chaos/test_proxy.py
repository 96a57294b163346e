"""The proxy does to bytes what it is told to, and to nothing else."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chaos.proxy import Fault, Mode, Proxy, is_replication

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says what it is told."""
    try:
        while data := await reader.read(1024):
            writer.write(data)
            await writer.drain()
        writer.write(b"end")
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy before an echo server."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy = Proxy(random.Random(1), lambda: port)
    await proxy.start()
    yield proxy
    await proxy.stop()
    server.close()


@asynccontextmanager
async def _connection(proxy: Proxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _said(streams: Streams, text: bytes) -> bytes:
    reader, writer = streams
    writer.write(text)
    return await asyncio.wait_for(reader.read(1024), 5)


async def _silent(streams: Streams, text: bytes) -> bool:
    reader, writer = streams
    writer.write(text)
    done, _ = await asyncio.wait({asyncio.ensure_future(reader.read(1024))}, timeout=0.1)
    return not done


async def test_passes_and_tells_the_end(proxy: Proxy) -> None:
    """Bytes arrive as they are, and so does the end of either side."""
    async with _connection(proxy) as streams:
        assert await _said(streams, b"hello") == b"hello"
        streams[1].write_eof()
        assert await asyncio.wait_for(streams[0].read(), 5) == b"end"


@pytest.mark.parametrize(
    "fault", [Fault(Mode.DELAY, delay_s=0.05), Fault(Mode.THROTTLE, bytes_per_s=100)]
)
async def test_delays(proxy: Proxy, fault: Fault) -> None:
    """A delay is met in both directions, a throttle for each byte."""
    async with _connection(proxy) as streams:
        proxy.set(fault)
        started = time.monotonic()

        assert await _said(streams, b"hello") == b"hello"
        assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize("mode", [Mode.BLACKHOLE, Mode.HALF_CLOSE])
async def test_swallows_and_goes_on(proxy: Proxy, mode: Mode) -> None:
    """Nothing comes back and nothing is closed; afterwards the same connection works again."""
    async with _connection(proxy) as streams:
        assert await _said(streams, b"hello") == b"hello"
        proxy.set(Fault(mode))
        assert await _silent(streams, b"lost")
    proxy.set(Fault())
    async with _connection(proxy) as streams:
        assert await _said(streams, b"again") == b"again"


async def test_resets_open_connections_and_new_ones(proxy: Proxy) -> None:
    """Both are ended."""
    async with _connection(proxy) as streams:
        assert await _said(streams, b"hello") == b"hello"
        proxy.set(Fault(Mode.RESET))
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(streams[0].readexactly(1), 5)
    async with _connection(proxy) as streams:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(streams[0].readexactly(1), 5)


async def test_sends_noise(proxy: Proxy) -> None:
    """What the server says becomes something else."""
    async with _connection(proxy) as streams:
        proxy.set(Fault(Mode.CORRUPT, corrupt_share=1))

        assert (await _said(streams, b"hello"))[:1] == b"\0"


async def test_tells_connections_apart(proxy: Proxy) -> None:
    """A fault for replication leaves callers alone."""
    async with _connection(proxy) as caller, _connection(proxy) as replica:
        assert await _said(caller, b"PING") == b"PING"
        assert await _said(replica, b"*1 replconf") == b"*1 replconf"
        proxy.set(Fault(Mode.BLACKHOLE, only=is_replication))

        assert await _silent(replica, b"lost")
        assert await _said(caller, b"PING") == b"PING"
