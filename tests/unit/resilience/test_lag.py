"""A process that is late does not take itself for a slow store."""

from __future__ import annotations

import asyncio
import time

import pytest

from resilience.breaker import Outcome, State
from resilience.guard import Guard
from resilience.lag import LoopLag
from tests.unit.resilience.making import some_breakers


async def test_a_loop_that_is_held_up_is_late() -> None:
    """By as long as it was held up; nothing is left of it when nobody watches."""
    lag = LoopLag()
    with lag.watched():
        await asyncio.sleep(0.05)
        time.sleep(0.1)
        await asyncio.sleep(0.05)
        assert 0.05 < lag.recent_s < 1
    assert lag.recent_s == 0


def test_lateness_is_forgotten() -> None:
    """After half a second to a second."""
    lag = LoopLag()
    lag.note(10.0, 0.2)
    lag.note(10.6, 0.01)
    assert lag.recent_s == 0.2
    lag.note(11.2, 0.01)
    assert lag.recent_s == 0.01


async def test_our_own_lateness_opens_nothing() -> None:
    """Calls that run out of time, or seem slow, while the loop is late are neutral, or quick."""
    breakers = some_breakers("pg/read", clock=time.monotonic)
    guard = Guard(breakers, "pg/read", judge=lambda _: Outcome.FAILED)
    common = breakers.common

    async def slow() -> None:
        await asyncio.sleep(0.06)

    common.lag.note(0.0, 0.02)
    assert common.patience_s(1.0) == pytest.approx(1.06)
    await guard.call(slow, timeout_s=5)
    assert breakers["pg/read"].counts()["slow"] == 0
    common.lag.note(0.0, 10.0)
    assert common.own_fault(1.0)
    common.lag.note(10.0, 0.0)
    common.lag.note(20.0, 0.0)
    assert not common.own_fault(1.0)
    await guard.call(slow, timeout_s=5)
    assert breakers["pg/read"].counts()["slow"] == 1
    assert breakers["pg/read"].state is State.CLOSED
