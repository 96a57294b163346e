"""A whole server of fake use cases on loopback ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import grpc
import pytest

from bootstrap.server_settings import ServerSettings
from resilience.breakers import Breakers
from resilience.machine import MachineFile
from resilience.machine_worker import MachineWorker
from server.app import Server
from server.health import Health
from tests.unit.server.fakes import BREAKERS, Fakes, Serving


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
def machine(tmp_path: Path) -> Iterator[MachineFile]:
    """The file of a machine of its own, with the breakers of the fakes."""
    file = MachineFile(tmp_path / "state", BREAKERS)
    yield file
    file.close()


@pytest.fixture
async def serving(settings: ServerSettings, machine: MachineFile) -> AsyncIterator[Serving]:
    """A started server, the only worker of its machine."""
    fakes = Fakes()
    member = MachineWorker(machine, Breakers({}, rng=Random(1)))
    looking = asyncio.create_task(member.run())
    health = Health(("postgres", "redis"))
    server = Server(fakes.use_cases(machine), settings, health)
    await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
    admin_channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.admin_port}")
    yield Serving(server, health, fakes, channel, admin_channel, machine)
    for gate in fakes.gates.values():
        gate.set()
    await channel.close()
    await admin_channel.close()
    await server.stop()
    looking.cancel()
