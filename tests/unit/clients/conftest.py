"""The fake server, the clock, and both clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from standings_client import AsyncClient, Client
from tests.unit.clients.faces import Either, FakeTime
from tests.unit.clients.fake_server import Fake, start


@pytest.fixture
def fake_time() -> FakeTime:
    """A clock that moves only by sleeping."""
    return FakeTime()


@pytest.fixture
def fake() -> Fake:
    """What the server answers and was asked."""
    return Fake()


@pytest.fixture
def address(fake: Fake) -> Iterator[str]:
    """Where the fake server listens."""
    server, address = start(fake)
    yield address
    fake.released.set()
    server.stop(grace=None).wait()


@pytest.fixture
def sync_client(address: str, fake_time: FakeTime) -> Iterator[Client]:
    """The client for threads."""
    with Client(address, environment=fake_time.environment()) as client:
        yield client


@pytest.fixture
async def async_client(address: str, fake_time: FakeTime) -> AsyncIterator[AsyncClient]:
    """The client for asyncio."""
    async with AsyncClient(address, environment=fake_time.environment()) as client:
        yield client


@pytest.fixture(params=["sync", "asyncio"])
async def client(request: Any, address: str, fake_time: FakeTime) -> AsyncIterator[Either]:
    """Each of both clients in turn."""
    if request.param == "sync":
        with Client(address, environment=fake_time.environment()) as client:
            yield Either(client)
    else:
        async with AsyncClient(address, environment=fake_time.environment()) as client:
            yield Either(client)
