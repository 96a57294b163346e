"""What is left of connections to a PostgreSQL that stands still: takes them, and says nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from storage.breaker_overrides import PostgresBreakerOverrides
from storage.connecting import LedgerConnection
from storage.leadership import PostgresLeadership
from storage.pool import open_pool
from storage.sessions import PoolUse
from storage.settings import PostgresSettings

IN_TIME_S = 10.0


@dataclass
class Silent:
    """Where such a server listens, and whether somebody came and went again."""

    dsn: str = ""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hears one caller out."""
        with contextlib.suppress(ConnectionError):
            while await reader.read(1024):
                pass
        self.gone.set()
        writer.close()


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    """A server that stands still."""
    silent = Silent()
    async with await asyncio.start_server(silent.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        silent.dsn = f"postgresql://nobody@127.0.0.1:{port}/none"
        yield silent


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Whoever is let go of only by the garbage collector stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def _connects(dsn: str) -> None:
    await LedgerConnection.connect(dsn, connect_timeout=2)


async def _gives_up(dsn: str) -> None:
    await asyncio.wait_for(LedgerConnection.connect(dsn), 0.1)


async def _holds_a_pool(dsn: str) -> None:
    settings = PostgresSettings(dsn=SecretStr(dsn), connect_timeout_s=2)
    async with open_pool(settings, dsn, PoolUse.READ) as pool:
        await pool.wait(IN_TIME_S)


async def _asks_for_overrides(dsn: str) -> None:
    await PostgresBreakerOverrides(dsn).exchange(())


async def _wants_to_lead(dsn: str) -> None:
    async def work() -> None:
        """Never comes to that."""

    await PostgresLeadership(dsn).lead(work)


@pytest.mark.parametrize(
    "caller", [_connects, _gives_up, _holds_a_pool, _asks_for_overrides, _wants_to_lead]
)
async def test_whoever_gives_up_closes_the_connection(
    caller: Callable[[str], Awaitable[None]], silent: Silent
) -> None:
    """At once, not when garbage is looked for: a server that goes on finds nobody in its way."""
    calling = asyncio.ensure_future(caller(silent.dsn))
    try:
        await asyncio.wait_for(silent.gone.wait(), IN_TIME_S / 2)
    finally:
        calling.cancel()
        # What it was told is the business of its own tests.
        await asyncio.gather(calling, return_exceptions=True)
