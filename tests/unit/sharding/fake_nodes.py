"""Nodes of a cluster that answer as a test says, and a router over them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import repeat
from typing import Any

from hiredis import Reader

from sharding.router import Router
from sharding.settings import RedisSettings
from sharding.slot_map import Address

HANG_UP = b""
"""An answer that ends the connection instead."""


class FakeNode:
    """A server on a free port."""

    def __init__(self) -> None:
        self.answers: Iterator[bytes | None] = repeat(b"+OK\r\n")
        """To the calls, one after the other; None is silence."""
        self.slots = b"*0\r\n"
        """The answer to CLUSTER SLOTS."""
        self.calls: list[list[bytes]] = []
        """What came, except for CLUSTER SLOTS and FUNCTION LOAD."""
        self.slots_asked_at_s: list[float] = []
        self.hung_up = asyncio.Event()
        """Set when the router has closed a connection."""

    async def start(self) -> asyncio.Server:
        """The server, listening."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = Address(*server.sockets[0].getsockname())
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = Reader()
        try:
            while data := await reader.read(65536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    answer = self._answer(command)
                    if answer == HANG_UP:
                        return
                    writer.write(answer or b"")
            self.hung_up.set()
        finally:
            writer.close()

    def _answer(self, command: Any) -> bytes | None:
        if command == [b"CLUSTER", b"SLOTS"]:
            self.slots_asked_at_s.append(asyncio.get_running_loop().time())
            return self.slots
        if command[:2] == [b"FUNCTION", b"LOAD"]:
            return b"+OK\r\n"
        self.calls.append(command)
        return next(self.answers)


def all_slots_at(node: FakeNode) -> bytes:
    """The answer to CLUSTER SLOTS where one node owns everything."""
    host, port = node.address
    owner = b"*2\r\n$%d\r\n%s\r\n:%d\r\n" % (len(host), host.encode(), port)
    return b"*1\r\n*3\r\n:0\r\n:16383\r\n%s" % owner


def redirect(word: str, node: FakeNode) -> bytes:
    """The error that sends a call to another node."""
    return f"-{word} 1 {node.address}\r\n".encode()


@asynccontextmanager
async def fake_nodes() -> AsyncIterator[tuple[FakeNode, FakeNode]]:
    """Two nodes; the first one owns every slot, and both say so."""
    first, second = FakeNode(), FakeNode()
    servers = [await node.start() for node in (first, second)]
    first.slots = second.slots = all_slots_at(first)
    yield first, second
    for server in servers:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def routing(*seeds: Address, operation_timeout_s: float = 5.0) -> AsyncIterator[Router]:
    """An open router that begins with some nodes."""
    nodes = tuple(str(seed) for seed in seeds)
    settings = RedisSettings(nodes=nodes, operation_timeout_s=operation_timeout_s)
    router = Router(settings, rng=random.Random(1))
    await router.open()
    try:
        yield router
    finally:
        await router.aclose()
