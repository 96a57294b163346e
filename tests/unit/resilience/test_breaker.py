"""When a breaker opens, what it lets through then, and when it closes."""

from __future__ import annotations

from contextlib import suppress

import pytest

from resilience.breaker import PERMITS, BreakerRules, Outcome, State
from resilience.errors import CircuitOpen
from tests.unit.resilience.making import FakeClock, Notes, a_breaker, call, trip


@pytest.fixture
def clock() -> FakeClock:
    """The time."""
    return FakeClock()


def test_steady_errors_of_a_fifth_do_not_open_it(clock: FakeClock) -> None:
    """Many failures, never many in a row, are below the limit; half of the calls are not."""
    breaker = a_breaker(clock)
    for number in range(2000):
        call(breaker, Outcome.LOST if number % 5 == 0 else Outcome.OK)
        clock.now_s += 0.01
    assert breaker.state is State.CLOSED
    number = 0
    while breaker.state is State.CLOSED:
        call(breaker, Outcome.FAILED if number % 10 < 7 else Outcome.OK)
        clock.now_s += 0.01
        number += 1
    assert 400 < number < 1000  # Of 1,000 calls that count, half have to be bad.


def test_few_calls_open_nothing(clock: FakeClock) -> None:
    """Nineteen failed calls are no rate yet, the twentieth makes one."""
    breaker = a_breaker(clock)
    for _ in range(19):
        call(breaker, Outcome.FAILED)
    assert breaker.state is State.CLOSED
    call(breaker, Outcome.FAILED)
    assert breaker.state is State.OPEN


def test_a_call_counts_for_ten_seconds(clock: FakeClock) -> None:
    """Failures that are older are forgotten."""
    breaker = a_breaker(clock)
    for _ in range(19):
        call(breaker, Outcome.FAILED)
    clock.now_s += 11
    call(breaker, Outcome.FAILED)
    assert breaker.state is State.CLOSED
    assert breaker.report().rates.calls == 1


def test_five_lost_calls_in_a_row_open_it(clock: FakeClock) -> None:
    """Nothing that comes back at all is known sooner than a rate; one answer in between helps, a
    caller who went does not.
    """
    breaker = a_breaker(clock)
    for outcome in [Outcome.LOST] * 4 + [Outcome.OK] + [Outcome.LOST] * 4 + [Outcome.NEUTRAL]:
        call(breaker, outcome)
    assert breaker.state is State.CLOSED
    call(breaker, Outcome.LOST)
    assert breaker.state is State.OPEN


def test_a_stall_that_loses_all_on_their_way_is_no_silence(clock: FakeClock) -> None:
    """Where a rule says so, five are enough only if the first of them began long enough ago."""
    breaker = a_breaker(clock, BreakerRules(slow_s=0.05, silence_s=0.3))
    clock.now_s += 0.1
    for _ in range(7):
        call(breaker, Outcome.LOST, 0.1)
    assert breaker.state is State.CLOSED
    call(breaker, Outcome.OK)
    clock.now_s += 0.25
    for _ in range(4):
        call(breaker, Outcome.LOST, 0.1)
    clock.now_s += 0.15
    assert breaker.state is State.CLOSED
    call(breaker, Outcome.OK)
    for _ in range(4):
        call(breaker, Outcome.LOST, 0.1)
    clock.now_s += 0.25
    call(breaker, Outcome.LOST, 0.01)
    assert breaker.state is State.OPEN


def test_slow_calls_open_it(clock: FakeClock) -> None:
    """Four of five calls that are slow or fail are too many, three of five are not."""
    for slow, opens in ((16, True), (12, False)):
        breaker = a_breaker(clock)
        for _ in range(20 - slow):
            call(breaker, Outcome.OK, 0.01)
        for _ in range(slow):
            call(breaker, Outcome.OK, 0.06)
        assert (breaker.state is State.OPEN) == opens


def test_cancelled_calls_are_neutral(clock: FakeClock) -> None:
    """They neither open a closed breaker nor close one that is half-open."""
    breaker = a_breaker(clock)
    for _ in range(100):
        call(breaker, Outcome.NEUTRAL)
    assert breaker.state is State.CLOSED
    trip(breaker)
    clock.now_s += 1
    for _ in range(100):
        call(breaker, Outcome.NEUTRAL)
    assert breaker.state is State.HALF_OPEN


def test_half_open_has_three_permits(clock: FakeClock) -> None:
    """Of two hundred callers at once three are let through; a cancelled one gives its place back,
    and three successes close it.
    """
    breaker = a_breaker(clock)
    trip(breaker)
    clock.now_s += 1
    admitted = []
    for _ in range(200):
        with suppress(CircuitOpen):
            admitted.append(breaker.admit())
    assert len(admitted) == breaker.probes_most == PERMITS
    breaker.settle(admitted.pop(), Outcome.NEUTRAL, 0)
    admitted.append(breaker.admit())
    for epoch in admitted:
        assert breaker.state is State.HALF_OPEN
        breaker.settle(epoch, Outcome.OK, 0)
    assert breaker.state is State.CLOSED
    assert breaker.probes_most == PERMITS


def test_probes_of_an_earlier_time_count_as_long_as_they_are_away(clock: FakeClock) -> None:
    """Who is stuck from the last time is on its way still, and no more once it is back; calls that
    are no probes do not count.
    """
    breaker = a_breaker(clock)
    trip(breaker)
    clock.now_s += 1
    stuck = [breaker.admit() for _ in range(2)]
    call(breaker, Outcome.FAILED)
    clock.now_s += 2
    call(breaker, Outcome.OK)
    assert breaker.probes_most == 3
    call(breaker, Outcome.OK)
    call(breaker, Outcome.OK)
    assert breaker.state is State.CLOSED
    call(breaker, Outcome.OK)
    for epoch in stuck:
        breaker.settle(epoch, Outcome.FAILED, 0)
    trip(breaker)
    clock.now_s += 30
    for _ in range(3):
        breaker.admit()
    assert breaker.probes_most == 3


@pytest.mark.parametrize(("outcome", "took_s"), [(Outcome.FAILED, 0.0), (Outcome.OK, 1.0)])
def test_one_failed_probe_opens_it_again(clock: FakeClock, outcome: Outcome, took_s: float) -> None:
    """Two successes before it do not help; a slow success is no better than a failure."""
    breaker = a_breaker(clock)
    trip(breaker)
    clock.now_s += 1
    call(breaker, Outcome.OK)
    call(breaker, Outcome.OK)
    call(breaker, outcome, took_s)
    assert breaker.state is State.OPEN


def test_results_from_before_a_change_do_not_count(clock: FakeClock) -> None:
    """Failures that come in late do not keep it open longer, and late successes do not close it."""
    breaker = a_breaker(clock)
    late = [breaker.admit() for _ in range(50)]
    trip(breaker)
    for epoch in late[:25]:
        clock.now_s += 1 / 64
        breaker.settle(epoch, Outcome.LOST, 0.2)
    assert breaker.report().open_left_s == 1 - 25 / 64
    clock.now_s += 1
    probe = breaker.admit()
    for epoch in late[25:]:
        breaker.settle(epoch, Outcome.OK, 0.2)
    assert breaker.state is State.HALF_OPEN
    breaker.settle(probe, Outcome.FAILED, 0)
    assert breaker.state is State.OPEN
    assert breaker.counts()["late"] == 50


def test_it_stays_open_twice_as_long_each_time(clock: FakeClock) -> None:
    """From one second to thirty; half a minute of being closed makes it one again."""
    breaker = a_breaker(clock)
    trip(breaker)
    seen = []
    for _ in range(7):
        seen.append(breaker.report().open_left_s)
        clock.now_s += seen[-1]
        call(breaker, Outcome.FAILED)
    assert seen == pytest.approx([1, 2, 4, 8, 16, 30, 30])
    for calm_s, then_s in ((29.0, 30.0), (31.0, 1.0)):
        clock.now_s += 30
        for _ in range(PERMITS):
            call(breaker, Outcome.OK)
        assert breaker.state is State.CLOSED
        clock.now_s += calm_s
        trip(breaker)
        assert breaker.report().open_left_s == pytest.approx(then_s)


def test_callers_do_not_probe_where_a_prober_does(clock: FakeClock) -> None:
    """While one is alive only it is let through; when it is dead callers are."""
    breaker = a_breaker(clock)
    trip(breaker)
    breaker._common.prober_until_s = clock.now_s + 3
    clock.now_s += 1
    with pytest.raises(CircuitOpen):
        breaker.admit()
    breaker.settle(breaker.admit(prober=True), Outcome.OK, 0)
    clock.now_s += 2
    call(breaker, Outcome.OK)
    call(breaker, Outcome.OK)
    assert breaker.state is State.CLOSED


def test_another_thing_behind_it_closes_it(clock: FakeClock) -> None:
    """What failed before does not count against what took its place."""
    breaker = a_breaker(clock)
    trip(breaker)
    breaker.renew()
    assert breaker.free
    trip(breaker)
    assert breaker.report().open_left_s == pytest.approx(1)


def test_changes_are_told_once(clock: FakeClock) -> None:
    """In order, each with what it was before."""
    notes = Notes()
    breaker = a_breaker(clock, BreakerRules(slow_s=1, losses_max=1), notes)
    trip(breaker)
    clock.now_s += 1
    for _ in range(PERMITS):
        call(breaker, Outcome.OK)
    assert notes.changes == [
        ("store/one", "CLOSED", "OPEN"),
        ("store/one", "OPEN", "HALF_OPEN"),
        ("store/one", "HALF_OPEN", "CLOSED"),
    ]


def test_who_is_probed_is_tried_again_soon_however_often_it_failed(clock: FakeClock) -> None:
    """The growing pauses spare callers, and a prober costs them nothing."""
    breaker = a_breaker(clock)
    trip(breaker)
    for _ in range(8):
        breaker._common.prober_until_s = clock.now_s + 3
        clock.now_s += breaker.report().open_left_s
        breaker.settle(breaker.admit(prober=True), Outcome.LOST, 0.1)

        assert breaker.report().open_left_s <= 2.4
