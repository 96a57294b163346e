"""What a call goes through, and what its end says."""

from __future__ import annotations

import asyncio
import time

import pytest

from resilience.breaker import Outcome, State
from resilience.breakers import Breakers
from resilience.bulkhead import Bulkhead
from resilience.deadline import DEADLINE_S
from resilience.errors import BulkheadFull, CircuitOpen, InjectedError
from resilience.faults import Fault, FaultKind
from resilience.guard import Guard
from tests.unit.resilience.making import Notes, Wishes, some_breakers, trip


class Lost(Exception):
    """The other side went away."""


class Refusal(Exception):
    """An answer of the other side's."""


def judge(error: Exception) -> Outcome:
    """As an adapter does."""
    return Outcome.LOST if isinstance(error, Lost) else Outcome.NEUTRAL


@pytest.fixture
def notes() -> Notes:
    """What was told."""
    return Notes()


@pytest.fixture
def wishes() -> Wishes:
    """What operators want."""
    return Wishes()


@pytest.fixture
def breakers(notes: Notes, wishes: Wishes) -> Breakers:
    """One breaker, by the real clock."""
    clock = time.monotonic
    return some_breakers("pg/read", clock=clock, wishes=wishes, observer=notes)


@pytest.fixture
def guard(breakers: Breakers) -> Guard:
    """The guard under test."""
    return Guard(breakers, "pg/read", judge=judge)


class Flaky:
    """A call that fails some times before it succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.count = 0

    async def __call__(self) -> int:
        """How often it was called."""
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.count


async def forever() -> None:
    """Never comes back."""
    await asyncio.Event().wait()


async def test_a_lost_harmless_call_is_made_once_more(guard: Guard, notes: Notes) -> None:
    """Once, and then its error is told."""
    assert await guard.call(Flaky(Lost()), timeout_s=5, idempotent=True) == 2
    flaky = Flaky(Lost(), Lost())
    with pytest.raises(Lost):
        await guard.call(flaky, timeout_s=5, idempotent=True)
    assert flaky.count == 2
    assert notes.retries == [False, False]


async def test_other_calls_are_made_once(guard: Guard, breakers: Breakers) -> None:
    """What must not happen twice, what was refused, what ran out of time, and what the open breaker
    forbids.
    """
    for error, idempotent in ((Lost(), False), (Refusal(), True), (TimeoutError(), True)):
        flaky = Flaky(error)
        with pytest.raises(type(error)):
            await guard.call(flaky, timeout_s=5, idempotent=idempotent)
        assert flaky.count == 1
    trip(breakers["pg/read"])
    flaky = Flaky()
    with pytest.raises(CircuitOpen):
        await guard.call(flaky, timeout_s=5, idempotent=True)
    with pytest.raises(CircuitOpen):
        guard.require()
    assert flaky.count == 0


async def test_second_tries_are_a_tenth_of_the_calls(guard: Guard, notes: Notes) -> None:
    """Once what was saved up is spent."""
    for _ in range(200):
        guard._breakers.budget.spend()
    tries = 0
    for _ in range(200):
        flaky = Flaky(Lost())
        try:
            await guard.call(flaky, timeout_s=5, idempotent=True)
        except Lost:
            pass
        except CircuitOpen:
            guard._breaker.renew()
        tries += flaky.count == 2
    assert 10 <= tries <= 20
    assert notes.retries.count(True) > 100


async def test_no_call_outlives_its_caller(guard: Guard, breakers: Breakers) -> None:
    """Its time is the caller's where that is shorter; too little of it says nothing."""
    before = DEADLINE_S.set(time.monotonic() + 0.05)
    try:
        began_s = time.monotonic()
        with pytest.raises(TimeoutError):
            await guard.call(forever, timeout_s=5)
        assert time.monotonic() - began_s < 0.15
        assert breakers["pg/read"].losses == 1
        with pytest.raises(TimeoutError):
            await guard.call(forever, timeout_s=5)
        assert breakers["pg/read"].losses == 1
        flaky = Flaky()
        with pytest.raises(TimeoutError):
            await guard.call(flaky, timeout_s=5)
        assert flaky.count == 0
    finally:
        DEADLINE_S.reset(before)


async def test_a_cancelled_probe_gives_its_permit_back(guard: Guard, breakers: Breakers) -> None:
    """Callers who go neither close it nor keep the others out."""
    breaker = breakers["pg/read"]
    trip(breaker)
    breaker._open_until_s = 0
    for _ in range(10):
        caller = asyncio.create_task(guard.call(forever, timeout_s=5))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
    assert breaker.state is State.HALF_OPEN


async def test_a_shielded_call_survives_its_caller(breakers: Breakers, notes: Notes) -> None:
    """A commit goes on when the caller is cancelled, and is counted until it is done."""
    guard = Guard(breakers, "pg/read", judge=judge, shielded=True)
    go, done = asyncio.Event(), asyncio.Event()

    async def commit() -> None:
        await go.wait()
        done.set()

    caller = asyncio.create_task(guard.call(commit, timeout_s=5))
    for _ in range(3):
        await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert notes.abandoned_count == 1
    go.set()
    await done.wait()
    await asyncio.sleep(0)
    assert notes.abandoned_count == 0


async def test_a_full_bulkhead_says_nothing_of_the_store(breakers: Breakers) -> None:
    """Two calls run, one waits, the fourth is refused."""
    guard = Guard(breakers, "pg/read", judge=judge, bulkhead=Bulkhead(2, 1))
    callers = [asyncio.create_task(guard.call(forever, timeout_s=0.1)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(BulkheadFull):
        await guard.call(forever, timeout_s=5)
    for caller in callers[:2]:
        with pytest.raises(TimeoutError):
            await caller
    with pytest.raises((BulkheadFull, TimeoutError)):
        await callers[2]
    assert breakers["pg/read"].counts()["neutral"] >= 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(FaultKind.ERROR, 1.0), InjectedError),
        (Fault(FaultKind.TIMEOUT, 1.0), TimeoutError),
        (Fault(FaultKind.LATENCY, 1.0, 500), TimeoutError),
    ],
)
async def test_injected_faults_count(
    guard: Guard, breakers: Breakers, wishes: Wishes, fault: Fault, error: type[Exception]
) -> None:
    """Five of them open the breaker as real ones do, and the call is not made."""
    wishes.faults["pg/read"] = fault
    flaky = Flaky()
    for _ in range(5):
        with pytest.raises(error):
            await guard.call(flaky, timeout_s=0.03)
    assert flaky.count == 0
    assert breakers["pg/read"].state is State.OPEN


async def test_injected_latency_is_waited_for(guard: Guard, wishes: Wishes) -> None:
    """The call is made after it; one whose turn it is not is not touched."""
    wishes.faults["pg/read"] = Fault(FaultKind.LATENCY, 1.0, 30)
    began_s = time.monotonic()
    assert await guard.call(Flaky(), timeout_s=5) == 1
    assert time.monotonic() - began_s >= 0.03
    wishes.faults["pg/read"] = Fault(FaultKind.ERROR, 0.0)
    guard._breakers.look()
    assert await guard.call(Flaky(), timeout_s=5) == 1


async def test_what_was_counted_is_told_once(
    guard: Guard, breakers: Breakers, notes: Notes
) -> None:
    """Each call by how it ended, each refusal by its reason."""
    await guard.call(Flaky(), timeout_s=5)
    trip(breakers["pg/read"])
    with pytest.raises(CircuitOpen):
        await guard.call(Flaky(), timeout_s=5)
    for _ in range(2):
        breakers.tell()
    assert notes.calls == {
        ("pg/read", "ok"): 1,
        ("pg/read", "failed"): 5,
        ("pg/read", "open"): 1,
    }
