"""Who finds out that a store is well again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bootstrap.embedded.waiting import until
from resilience.breaker import Outcome, State
from resilience.breakers import Breakers
from resilience.overrides import Mode
from resilience.prober import Prober
from tests.unit.resilience.making import Wishes, some_breakers, trip


class Store:
    """Something to look at."""

    def __init__(self) -> None:
        self.outcome = Outcome.LOST
        self.looks = 0

    async def __call__(self) -> Outcome:
        """What a look says."""
        self.looks += 1
        return self.outcome


async def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether it does, in five seconds."""

    async def holds() -> bool:
        return condition()

    return await until(holds, timeout_s=5)


@asynccontextmanager
async def probing(breakers: Breakers, store: Store) -> AsyncIterator[None]:
    """A prober at work."""
    task = asyncio.create_task(Prober(breakers, {"pg/read": store}).run())
    try:
        yield
    finally:
        task.cancel()


async def test_a_store_that_is_well_again_is_found() -> None:
    """No caller is needed for it; while all is well nobody looks."""
    breakers, store = some_breakers("pg/read", clock=time.monotonic), Store()
    breaker = breakers["pg/read"]
    async with probing(breakers, store):
        await asyncio.sleep(0)
        assert store.looks == 0
        trip(breaker)
        breaker._open_until_s = 0.0
        assert await comes_true(lambda: store.looks >= 1)
        assert breaker.state is State.OPEN
        breaker._open_until_s = 0.0
        store.outcome = Outcome.OK
        assert await comes_true(lambda: breaker.state is State.CLOSED)


async def test_a_breaker_that_is_forced_open_is_looked_at() -> None:
    """What is found is shown, and changes nothing."""
    wishes, store = Wishes({"pg/read": Mode.FORCED_OPEN}), Store()
    breakers = some_breakers("pg/read", clock=time.monotonic, wishes=wishes)
    store.outcome = Outcome.OK
    async with probing(breakers, store):
        breaker = breakers["pg/read"]
        assert await comes_true(lambda: breaker.report().probe_ok is True)
        assert breaker.shut


async def test_a_probe_that_breaks_is_a_failure() -> None:
    """A bug in one ends neither the probing nor the opening."""
    breakers, store = some_breakers("pg/read", clock=time.monotonic), Store()

    async def broken() -> Outcome:
        store.looks += 1
        raise KeyError

    trip(breakers["pg/read"])
    breakers["pg/read"]._open_until_s = 0.0
    task = asyncio.create_task(Prober(breakers, {"pg/read": broken}).run())
    assert await comes_true(lambda: store.looks >= 1)
    assert not task.done()
    assert breakers["pg/read"].state is State.OPEN
    task.cancel()
