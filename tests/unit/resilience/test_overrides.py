"""What operators may do to a breaker, in whatever state it is."""

from __future__ import annotations

import pytest

from resilience.breaker import PERMITS, Breaker, Outcome, State
from resilience.errors import CircuitOpen
from resilience.overrides import Mode, mode_of
from tests.unit.resilience.making import FakeClock, Wishes, a_breaker, call, some_breakers, trip

STATES = [State.CLOSED, State.OPEN, State.HALF_OPEN]


@pytest.fixture
def clock() -> FakeClock:
    """The time."""
    return FakeClock()


def in_state(state: State, clock: FakeClock) -> Breaker:
    """A breaker in a state, with a failure in its window where it is closed."""
    breaker = a_breaker(clock)
    if state is State.CLOSED:
        call(breaker, Outcome.FAILED)
        return breaker
    trip(breaker)
    if state is State.HALF_OPEN:
        clock.now_s += 1
        call(breaker, Outcome.NEUTRAL)
    assert breaker.state is state
    return breaker


@pytest.mark.parametrize("state", STATES)
def test_forced_open_refuses_all(state: State, clock: FakeClock) -> None:
    """Nobody is let through, the prober neither, and time changes nothing."""
    breaker = in_state(state, clock)
    breaker.look(Mode.FORCED_OPEN, None)
    for _ in range(3):
        clock.now_s += 100
        for prober in (False, True):
            with pytest.raises(CircuitOpen):
                breaker.admit(prober=prober)
        breaker.show(ok=True)
    report = breaker.report()
    assert (report.state, report.mode, report.probe_ok) == (state, Mode.FORCED_OPEN, True)


@pytest.mark.parametrize("state", STATES)
def test_forced_closed_lets_all_through(state: State, clock: FakeClock) -> None:
    """Failures change nothing but the counts."""
    breaker = in_state(state, clock)
    failed = breaker.counts()["failed"]
    breaker.look(Mode.FORCED_CLOSED, None)
    epochs = [breaker.admit() for _ in range(100)]
    for epoch in epochs:
        breaker.settle(epoch, Outcome.LOST, 1.0)
    assert breaker.state is state
    assert breaker.counts()["failed"] == failed + 100


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("mode", [Mode.FORCED_OPEN, Mode.FORCED_CLOSED])
def test_back_in_auto_it_begins_anew(state: State, mode: Mode, clock: FakeClock) -> None:
    """Closed and with nothing counted; after being forced open with probes, lest a flood come."""
    breaker = in_state(state, clock)
    breaker.look(mode, None)
    breaker.look(Mode.AUTO, None)
    after = State.HALF_OPEN if mode is Mode.FORCED_OPEN else State.CLOSED
    report = breaker.report()
    assert (report.state, report.rates.calls, report.probe_ok) == (after, 0, None)
    for _ in range(PERMITS):
        call(breaker, Outcome.OK)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("mode", [Mode.FORCED_OPEN, Mode.FORCED_CLOSED])
def test_calls_from_before_an_override_are_late(mode: Mode, clock: FakeClock) -> None:
    """Also when it is over."""
    breaker = a_breaker(clock)
    early = [breaker.admit() for _ in range(10)]
    breaker.look(mode, None)
    for epoch in early[:5]:
        breaker.settle(epoch, Outcome.LOST, 0)
    breaker.look(Mode.AUTO, None)
    state = breaker.state
    for epoch in early[5:]:
        breaker.settle(epoch, Outcome.LOST, 0)
    assert breaker.state is state
    assert breaker.counts()["late"] == 10


@pytest.mark.parametrize(
    ("own", "parent", "result"),
    [
        (Mode.AUTO, Mode.AUTO, Mode.AUTO),
        (Mode.AUTO, Mode.FORCED_OPEN, Mode.FORCED_OPEN),
        (Mode.FORCED_OPEN, Mode.FORCED_CLOSED, Mode.FORCED_OPEN),
        (Mode.FORCED_CLOSED, Mode.FORCED_OPEN, Mode.FORCED_OPEN),
        (Mode.AUTO, Mode.FORCED_CLOSED, Mode.FORCED_CLOSED),
        (Mode.FORCED_CLOSED, Mode.AUTO, Mode.FORCED_CLOSED),
    ],
)
def test_forced_open_wins(own: Mode, parent: Mode, result: Mode) -> None:
    """Over the other wish, whichever of the two is the parent's."""
    wishes = Wishes({"redis/shard-01": own, "redis": parent})
    assert mode_of(wishes, "redis/shard-01") is result


def test_an_override_is_seen_within_a_moment(clock: FakeClock) -> None:
    """The set looks again after 25 ms, and at once when told to."""
    wishes = Wishes()
    breakers = some_breakers("redis/a", "redis/b", "redis/c", "pg/a", clock=clock, wishes=wishes)
    breakers.glance(clock.now_s)
    wishes.modes["redis/a"] = wishes.modes["redis/b"] = Mode.FORCED_OPEN
    breakers.glance(clock.now_s + 0.02)
    assert breakers["redis/a"].free
    assert not breakers.is_open("redis")
    breakers.glance(clock.now_s + 0.03)
    assert not breakers["redis/a"].free
    assert breakers.is_open("redis")
    assert not breakers.is_open("pg")
    wishes.modes.clear()
    assert [report.mode for report in breakers.reports()] == [Mode.AUTO] * 4


def test_names_stand_for_breakers(clock: FakeClock) -> None:
    """One, all of a parent, or all."""
    breakers = some_breakers("redis/a", "redis/b", "pg/a", clock=clock)
    assert breakers.expand("redis/*") == ["redis/a", "redis/b"]
    assert breakers.expand("*") == ["redis/a", "redis/b", "pg/a"]
    assert breakers.expand("pg/a") == ["pg/a"]
    assert breakers.expand("red/*") == breakers.expand("pg") == []
    assert breakers.parents == ["redis", "pg"]
