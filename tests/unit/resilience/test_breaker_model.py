"""A breaker under anything that can happen to it, in any order."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilience.breaker import PERMITS, Outcome, State
from resilience.errors import CircuitOpen
from resilience.overrides import Mode
from tests.unit.resilience.making import FakeClock, a_breaker


class AnyBreaker(RuleBasedStateMachine):
    """Calls begin and end, time passes, operators change their minds."""

    @initialize()
    def begin(self) -> None:
        """A closed breaker."""
        self.clock = FakeClock()
        self.breaker = a_breaker(self.clock)
        self.under_way: list[tuple[int, State, Mode]] = []
        self.open_until_s = 0.0

    @rule(prober=st.booleans())
    def call(self, *, prober: bool) -> None:
        """Somebody calls, or is refused for a reason."""
        before, mode = self.breaker.state, self.breaker.mode
        epoch = None
        with suppress(CircuitOpen):
            epoch = self.breaker.admit(prober=prober)
        if epoch is None:
            assert mode is not Mode.FORCED_CLOSED
            assert mode is Mode.FORCED_OPEN or before is not State.CLOSED
            return
        assert mode is not Mode.FORCED_OPEN
        if mode is Mode.AUTO and before is State.OPEN:
            assert self.clock.now_s >= self.open_until_s
        self.under_way.append((epoch, self.breaker.state, mode))

    @precondition(lambda self: self.under_way)
    @rule(
        outcome=st.sampled_from(Outcome),
        slow=st.booleans(),
        place=st.integers(0, 10**6),
    )
    def end(self, outcome: Outcome, *, slow: bool, place: int) -> None:
        """One of the calls ends."""
        epoch, _, _ = self.under_way.pop(place % len(self.under_way))
        state, late = self.breaker.state, epoch < self.breaker.changed_in
        self.breaker.settle(epoch, outcome, 1.0 if slow else 0.0)
        if late or self.breaker.mode is not Mode.AUTO or outcome is Outcome.NEUTRAL:
            assert self.breaker.state is state
        elif state is State.HALF_OPEN and outcome is not Outcome.OK:
            assert self.breaker.state is State.OPEN
        if self.breaker.state is State.OPEN and state is not State.OPEN:
            self.open_until_s = self.clock.now_s + self.breaker.report().open_left_s

    @rule(seconds=st.sampled_from([0.01, 0.5, 1.0, 5.0, 40.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.now_s += seconds

    @rule(mode=st.sampled_from(Mode))
    def force(self, mode: Mode) -> None:
        """An operator wants something."""
        before, state = self.breaker.mode, self.breaker.state
        self.breaker.look(mode, None)
        if mode is not Mode.AUTO or before is Mode.AUTO:
            assert self.breaker.state is state
        else:
            forced_open = before is Mode.FORCED_OPEN
            assert self.breaker.state is (State.HALF_OPEN if forced_open else State.CLOSED)

    @invariant()
    def never_too_many_probes(self) -> None:
        """However many callers there are."""
        if self.breaker.state is not State.HALF_OPEN or self.breaker.mode is not Mode.AUTO:
            return
        probes = [epoch for epoch, *_ in self.under_way if epoch >= self.breaker.changed_in]
        assert len(probes) == self.breaker._permits <= PERMITS

    @invariant()
    def as_free_as_it_says(self) -> None:
        """What readers take a short cut by is what the state says."""
        free = self.breaker.mode is Mode.AUTO and self.breaker.state is State.CLOSED
        assert self.breaker.free == free


AnyBreaker.TestCase.settings = settings(max_examples=30, stateful_step_count=50, deadline=None)
TestAnyBreaker = AnyBreaker.TestCase
