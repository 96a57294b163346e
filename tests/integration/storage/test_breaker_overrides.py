"""What machines tell each other through PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.waiting import until
from core.clock import SystemClock
from core.errors import LedgerUnavailable
from core.types import AuditNote
from resilience.fleet import FleetOverride
from resilience.machine import MachineFile
from resilience.overrides import Mode
from server.levers.fleet import FleetSync
from server.levers.writing import setting_of
from storage.breaker_overrides import PostgresBreakerOverrides

pytestmark = pytest.mark.both_postgres

NAMES = ("redis", "redis/shard-00")
NAME = "redis/shard-00"
OURS = FleetOverride(NAME, Mode.FORCED_OPEN, 60_000, 100, 7, "a reason ü", "alex")


@pytest.fixture
def fleet(database: str) -> PostgresBreakerOverrides:
    """The table of a fresh database."""
    return PostgresBreakerOverrides(database)


class Machine:
    """One machine of a fleet, with one worker."""

    def __init__(self, folder: Path, fleet: PostgresBreakerOverrides) -> None:
        self.file = MachineFile(folder, NAMES)
        self.sync = FleetSync(self.file, fleet, SystemClock(), folder)

    def set(self, mode: Mode, *, ttl_ms: int = 60_000, name: str = NAME) -> None:
        """What an operator does here."""
        note = AuditNote("alex", "a reason", "")
        setting = setting_of(self.file, SystemClock(), mode, note, ttl_ms=ttl_ms)
        self.file.set_overrides({name: setting})


@pytest.fixture
async def machines(
    tmp_path: Path, fleet: PostgresBreakerOverrides
) -> AsyncIterator[tuple[Machine, Machine]]:
    """Two machines of a fleet."""
    both = Machine(tmp_path / "one", fleet), Machine(tmp_path / "two", fleet)
    yield both
    for machine in both:
        machine.file.close()


async def test_what_is_left_is_found(fleet: PostgresBreakerOverrides) -> None:
    """All fields come back, and the time that is left by the database's own clock."""
    assert await fleet.exchange([]) == []
    (stored,) = await fleet.exchange([OURS])

    assert replace(stored, left_ms=60_000) == OURS
    assert 55_000 < stored.left_ms <= 60_000


async def test_only_what_is_newer_replaces(fleet: PostgresBreakerOverrides) -> None:
    """By time, then by machine; the loser is told what is there."""
    await fleet.exchange([OURS])
    older = replace(OURS, set_time_ms=99, machine=9, mode=Mode.AUTO)
    tie = replace(OURS, machine=8, mode=Mode.FORCED_CLOSED)

    assert [one.mode for one in await fleet.exchange([older])] == [Mode.FORCED_OPEN]
    assert [one.mode for one in await fleet.exchange([tie])] == [Mode.FORCED_CLOSED]
    assert [one.mode for one in await fleet.exchange([OURS])] == [Mode.FORCED_CLOSED]


async def test_many_machines_at_once(fleet: PostgresBreakerOverrides) -> None:
    """The newest of twenty that come at the same time is there in the end."""
    await asyncio.gather(
        *(
            fleet.exchange(
                [replace(OURS, name=name, set_time_ms=time_ms) for name in ("redis", NAME)]
            )
            for time_ms in range(1, 21)
        )
    )

    assert {one.set_time_ms for one in await fleet.exchange([])} == {20}


async def test_a_machine_hears_of_another(machines: tuple[Machine, Machine]) -> None:
    """Forced on one, in force on the other after an exchange of each, with what is left of it;
    AUTO likewise, from either side.
    """
    one, two = machines
    one.set(Mode.FORCED_OPEN, ttl_ms=5_000)
    await one.sync.exchange()
    await two.sync.exchange()
    override = two.file.overrides()[NAME]

    assert (override.reason, override.actor, override.machine) == (
        "a reason",
        "alex",
        one.file.machine,
    )
    assert 0 < (override.expire_ns - time.monotonic_ns()) / 1e9 <= 5
    two.set(Mode.AUTO)
    await two.sync.exchange()
    await one.sync.exchange()
    assert one.file.overrides() == {}


async def test_what_has_ended_is_not_in_force_elsewhere(machines: tuple[Machine, Machine]) -> None:
    """A machine that comes later is not bothered with it."""
    one, two = machines
    one.set(Mode.FORCED_OPEN, ttl_ms=1)
    await one.sync.exchange()
    await two.sync.exchange()

    assert two.file.overrides() == {}


async def test_what_was_set_without_the_database_is_told_later(
    machines: tuple[Machine, Machine], postgres_faults: EmbeddedPostgres
) -> None:
    """With PostgreSQL away an exchange ends in time and changes nothing; a later one makes good."""
    one, two = machines
    postgres_faults.freeze()
    one.set(Mode.FORCED_OPEN)
    began_s = time.monotonic()
    await one.sync.exchange()

    assert time.monotonic() - began_s < 3
    assert one.file.mode(NAME) is Mode.FORCED_OPEN
    postgres_faults.thaw()
    await one.sync.exchange()
    await two.sync.exchange()
    assert two.file.mode(NAME) is Mode.FORCED_OPEN


async def test_an_exchange_fails_in_time(
    fleet: PostgresBreakerOverrides, postgres_faults: EmbeddedPostgres
) -> None:
    """A frozen database costs two seconds, a stopped one less."""
    await fleet.exchange([OURS])
    postgres_faults.freeze()
    began_s = time.monotonic()
    with pytest.raises(LedgerUnavailable):
        await fleet.exchange([OURS])

    assert time.monotonic() - began_s == pytest.approx(2, abs=0.5)


async def test_one_worker_of_a_machine_asks(
    tmp_path: Path, fleet: PostgresBreakerOverrides, machines: tuple[Machine, Machine]
) -> None:
    """It begins at once, and another takes over where it ends; a nudge is told by any of them."""
    one, two = machines
    beside = FleetSync(one.file, fleet, SystemClock(), tmp_path / "one")
    await fleet.exchange([OURS])
    first = asyncio.create_task(one.sync.run())
    assert await until(lambda: _has(one, Mode.FORCED_OPEN), timeout_s=5)
    second = asyncio.create_task(beside.run())
    two.set(Mode.FORCED_CLOSED)
    two.sync.nudge()
    two.sync.nudge()
    assert await until(lambda: _is_told(fleet, Mode.FORCED_CLOSED), timeout_s=5)
    first.cancel()
    await asyncio.wait({first})
    assert await until(lambda: _has(one, Mode.FORCED_CLOSED), timeout_s=5)
    second.cancel()
    await asyncio.wait({second})


async def _has(machine: Machine, mode: Mode) -> bool:
    return machine.file.mode(NAME) is mode


async def _is_told(fleet: PostgresBreakerOverrides, mode: Mode) -> bool:
    return [one.mode for one in await fleet.exchange([])] == [mode]
