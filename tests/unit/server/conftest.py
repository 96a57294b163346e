"""A whole server of fake use cases on loopback ports."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from bootstrap.server_settings import ServerSettings
from server.app import Server
from server.health import Health
from tests.unit.server.fakes import Fakes, Serving


@pytest.fixture
def settings() -> ServerSettings:
    """Free ports, and no waiting at the end."""
    return ServerSettings(
        address="127.0.0.1:0",
        admin_address="127.0.0.1:0",
        reflection=True,
        drain_settle_s=0,
        drain_grace_s=5,
    )


@pytest.fixture
async def serving(settings: ServerSettings) -> AsyncIterator[Serving]:
    """A started server."""
    fakes = Fakes()
    health = Health(("postgres", "redis"))
    server = Server(fakes.use_cases(), settings, health)
    await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
    admin_channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.admin_port}")
    yield Serving(server, health, fakes, channel, admin_channel)
    for gate in fakes.gates.values():
        gate.set()
    await channel.close()
    await admin_channel.close()
    await server.stop()
