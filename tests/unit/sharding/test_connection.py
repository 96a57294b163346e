"""The shared connection against a server that misbehaves on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hiredis import ReplyError

from sharding.connection import NodeConnection
from sharding.replies import NodeLost
from sharding.slot_map import Address

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PING = (b"PING",)
PING_BYTES = b"*1\r\n$4\r\nPING\r\n"


@asynccontextmanager
async def connected(
    handler: Handler, *, response_timeout_s: float = 5.0, pending_calls_max: int = 100
) -> AsyncIterator[NodeConnection]:
    """A connection to a server that does what the handler says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    connection = await NodeConnection.open(
        Address(*server.sockets[0].getsockname()),
        tls=None,
        response_timeout_s=response_timeout_s,
        pending_calls_max=pending_calls_max,
    )
    yield connection
    connection.abort()
    await connection.wait_closed()
    server.close()
    await server.wait_closed()


def replying(*parts: bytes) -> Handler:
    """Waits for the first bytes, then sends each part by itself, then waits for the end."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    return handler


async def test_replies_that_come_in_pieces_are_put_together() -> None:
    """Byte by byte, each call gets its own replies, with errors as replies."""
    stream = b"+A\r\n-ERR no\r\n*2\r\n:7\r\n-MOVED 1 a:1\r\n$-1\r\n"
    async with connected(replying(*(stream[n : n + 1] for n in range(len(stream))))) as connection:
        one, two, three = (connection.send([PING] * count) for count in (1, 2, 1))

        assert await one == [b"A"]
        error, nested = await two
        assert isinstance(error, ReplyError)
        assert [str(part) for part in nested] == ["7", "MOVED 1 a:1"]
        assert await three == [None]


async def test_callers_of_one_turn_share_a_write() -> None:
    """Two calls made together arrive as one piece, in their order."""
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.put_nowait(await reader.read(10_000))
        writer.write(b"+A\r\n+B\r\n+C\r\n")
        await reader.read()

    async with connected(handler) as connection:
        one, two = connection.send([(b"ASKING",), PING]), connection.send([PING])

        assert (await one, await two) == ([b"A", b"B"], [b"C"])
        assert await received.get() == b"*1\r\n$6\r\nASKING\r\n" + PING_BYTES * 2


async def test_a_cancelled_call_keeps_its_place() -> None:
    """Its reply is dropped and the next caller gets its own."""
    async with connected(replying(b"+A\r\n+B\r\n+C\r\n")) as connection:
        one, two, three = (connection.send([PING]) for _ in range(3))
        two.cancel()

        assert (await one, await three) == ([b"A"], [b"C"])


@pytest.mark.parametrize("stream", [b"HTTP/1.1 400\r\n", b"+A\r\n+more than was asked\r\n"])
async def test_a_stream_that_makes_no_sense_ends_the_connection(stream: bytes) -> None:
    """What is no RESP, or answers nobody, cannot be trusted any further."""
    async with connected(replying(stream)) as connection:
        await connection.send([PING])

        await connection.wait_closed()
        assert isinstance(await connection.send([PING]), NodeLost)


async def test_a_server_that_goes_away_loses_all_that_waits() -> None:
    """Calls with no reply or half of one are lost; none of them hangs."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10_000)
        writer.write(b"+A\r\n+B\r\n")
        await writer.drain()

    async with connected(handler) as connection:
        one, two, three = (connection.send([PING] * count) for count in (1, 2, 1))

        assert await one == [b"A"]
        assert isinstance(await two, NodeLost)
        assert isinstance(await three, NodeLost)


async def test_a_silent_server_is_given_up() -> None:
    """Calls that wait while nothing comes end the connection."""
    async with connected(replying(), response_timeout_s=0.05) as connection:
        assert isinstance(await connection.send([PING]), NodeLost)
        assert not connection.usable


async def test_a_slow_server_that_goes_on_answering_is_left_alone() -> None:
    """Calls may wait for longer than the silence that ends a connection."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        for _ in range(8):
            await asyncio.sleep(0.1)
            writer.write(b"+A\r\n")
        await reader.read()

    async with connected(handler, response_timeout_s=0.5) as connection:
        calls = [connection.send([PING]) for _ in range(8)]

        assert [await call for call in calls] == [[b"A"]] * 8


async def test_more_calls_than_may_wait_are_refused() -> None:
    """Those within the bound are not touched by it."""
    async with connected(replying(b"+A\r\n+B\r\n"), pending_calls_max=2) as connection:
        one, two, three = (connection.send([PING]) for _ in range(3))

        assert isinstance(await three, NodeLost)
        assert (await one, await two) == ([b"A"], [b"B"])


async def test_a_server_that_does_not_read_makes_calls_refused() -> None:
    """What waits to be sent is bounded, so a stuck node costs no memory."""

    async def handler(reader: asyncio.StreamReader, writer: Any) -> None:
        writer.transport.pause_reading()
        await stop.wait()

    stop = asyncio.Event()
    big = (b"ECHO", bytes(2**20))
    async with connected(handler) as connection:
        for _ in range(40):
            future = connection.send([big])
            await asyncio.sleep(0)
            if future.done():
                break

        assert isinstance(await future, NodeLost)
        stop.set()
