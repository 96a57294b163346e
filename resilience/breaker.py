"""A circuit breaker: stops calls to what is failing, and finds out when it is well again.

pybreaker holds the state and says when it changes. What it does not know is here: what is let
through (it lets everything through at once when half-open), which results count (it takes those of
calls that began before the last change, and cancelled ones), rates (it counts failures in a row)
and time (it goes by the wall clock). It is never put around a call: it would hold its lock
meanwhile.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

from resilience.deadline import SHORT_S
from resilience.errors import CircuitOpen
from resilience.faults import Fault
from resilience.lag import LoopLag
from resilience.lean_pybreaker import pybreaker
from resilience.observer import Observer
from resilience.overrides import Mode
from resilience.window import Rates, Window

_LAGS: Final = 3
"""How often a call waits for the event loop: to be sent, to be heard, and to go on."""
PERMITS: Final = 3
"""Calls that may be under way at once to find out whether it is well; as many have to succeed."""
_OPEN_FIRST_S: Final = 1.0
_OPEN_MAX_S: Final = 30.0
_OPEN_PROBED_MAX_S: Final = 2.0
"""While somebody probes, who costs callers nothing, there is no reason to find out later."""
_JITTER: Final = 0.2
_CALM_S: Final = 30.0
"""Closed for so long, a breaker opens as briefly as the first time."""
_FORCED_RETRY_S: Final = 1.0
_PROBE_RETRY_S: Final = 0.2


class State(IntEnum):
    """Whether calls are let through."""

    CLOSED = 1
    OPEN = 2
    HALF_OPEN = 3


class Outcome(IntEnum):
    """What a call says of what it called. LOST: it failed because nothing came back, or no
    connection was to be had. NEUTRAL: nothing; its caller went, or our own limits ended it.
    """

    OK = 1
    FAILED = 2
    LOST = 3
    NEUTRAL = 4


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens, besides after `losses_max` lost calls in a row, the first of which
    began `silence_s` ago: a short stall loses all that are on their way.
    """

    slow_s: float
    calls_min: int = 20
    failure_rate_max: float = 0.5
    bad_rate_max: float = 0.8
    """Of failed and slow calls together."""
    losses_max: int = 5
    silence_s: float = 0.0


class BreakerReport(NamedTuple):
    """How a breaker is. `open_left_s`: until it tries again; `probe_ok`: what the last look at it
    said while it was forced.
    """

    name: str
    state: State
    mode: Mode
    rates: Rates
    open_left_s: float
    probe_ok: bool | None


class Common:
    """What breakers share. `epoch` counts the changes of all of them, so that one number says what
    a call began under; until `prober_until_s` somebody probes, and calls need not.
    """

    __slots__ = ("clock", "epoch", "lag", "observer", "prober_until_s", "rng")

    def __init__(
        self, *, clock: Callable[[], float], rng: random.Random, observer: Observer
    ) -> None:
        self.clock = clock
        self.rng = rng
        self.observer = observer
        self.epoch = 0
        self.lag = LoopLag()
        self.prober_until_s = 0.0

    def patience_s(self, timeout_s: float) -> float:
        """A time limit, and by how much it has to be longer because we are late ourselves."""
        return timeout_s + _LAGS * self.lag.recent_s

    def own_fault(self, timeout_s: float) -> bool:
        """Whether a call that had so long may have run out of time because of us."""
        return timeout_s < SHORT_S or self.lag.recent_s > timeout_s / (_LAGS + 1)

    def net_s(self, took_s: float) -> float:
        """What a call took without what we may have added."""
        return took_s - _LAGS * self.lag.recent_s


class Breaker:
    """One breaker. A call asks `admit`, and says with `settle` how it ended; always, and once."""

    def __init__(self, name: str, rules: BreakerRules, common: Common) -> None:
        self.name = name
        self.rules = rules
        self.mode = Mode.AUTO
        self.state = State.CLOSED
        """The machine's own, whatever the mode is."""
        self.window = Window()
        self.losses = 0
        """Lost calls in a row."""
        self._silent_since_s = 0.0
        """When the first of them began."""
        self.free = True
        """Whether every call is let through, and its result counts: closed, and not forced."""
        self.changed_in = common.epoch
        """The epoch of the last change: results of calls that began before it are late."""
        self.fault: Fault | None = None
        self.probes_most = 0
        """The most probes that were ever on their way at once, those of every epoch together."""
        self._common = common
        self._clock = common.clock
        self._counts = {"neutral": 0, "late": 0, "open": 0, "probe": 0, "forced": 0}
        self._permits = 0
        self._probes: Counter[int] = Counter()
        """Those on their way, by the epoch in which their half-open state began."""
        self._probe_ok: bool | None = None
        self._opened_in_row = 0
        self._open_until_s = 0.0
        self._closed_at_s = self._clock()
        self._machine = pybreaker.CircuitBreaker(
            fail_max=1,
            reset_timeout=0,
            success_threshold=PERMITS,
            state_storage=_Storage(self._tripped),
            listeners=[_Listener(self._changed)],
            name=name,
            throw_new_error_on_trip=False,
        )

    @property
    def shut(self) -> bool:
        """Whether calls are refused, but for probes."""
        return not self.free and self.mode is not Mode.FORCED_CLOSED

    def report(self) -> BreakerReport:
        """How the breaker is now."""
        now_s = self._clock()
        left_s = self._open_until_s - now_s if self.state is State.OPEN else 0.0
        return BreakerReport(
            self.name,
            self.state,
            self.mode,
            self.window.rates(int(now_s)),
            max(0.0, left_s),
            self._probe_ok,
        )

    def admit(self, *, prober: bool = False) -> int:
        """The epoch that the call begins in. Raises CircuitOpen.

        What has to find out whether it is well again is the prober, where there is one.
        """
        if not self.shut:
            return self._common.epoch
        if self.mode is Mode.FORCED_OPEN:
            raise self._refusal("forced", _FORCED_RETRY_S)
        now_s = self._clock()
        if self.state is State.OPEN and now_s < self._open_until_s:
            raise self._refusal("open", self._open_until_s - now_s)
        if not prober and now_s < self._common.prober_until_s:
            raise self._refusal("probe", _PROBE_RETRY_S)
        if self.state is State.OPEN:
            self._machine.half_open()
        if self._permits == PERMITS:
            raise self._refusal("probe", _PROBE_RETRY_S)
        self._permits += 1
        self._probes[self.changed_in] += 1
        self.probes_most = max(self.probes_most, self._probes.total())
        return self._common.epoch

    def settle(self, epoch: int, outcome: Outcome, took_s: float) -> None:
        """Notes how a call ended that was admitted in an epoch."""
        if self._probes:
            self._arrive(epoch)
        if epoch < self.changed_in:
            self._counts["late"] += 1
            return
        if outcome is Outcome.NEUTRAL:
            self._counts["neutral"] += 1
        else:
            self._count(outcome, took_s)
        if self.mode is not Mode.AUTO:
            return
        if self.state is State.HALF_OPEN:
            self._probed(outcome, slow=took_s > self.rules.slow_s)
        elif outcome is not Outcome.NEUTRAL and self._tripped():
            self._feed(_fail)

    def note_ok(self, second: int) -> None:
        """As `settle`, for a quick success of a breaker that is `free`; `second` is the clock's."""
        window = self.window
        if window.second != second:
            window.turn_to(second)
        window.ok += 1
        self.losses = 0

    def look(self, mode: Mode, fault: Fault | None) -> None:
        """Takes what operators want of it now. Back in AUTO it begins anew, and after FORCED_OPEN
        with probes: what was held back must not come as a flood.
        """
        self.fault = fault
        before, self.mode = self.mode, mode
        if mode is before:
            return
        self._probe_ok = None
        if mode is not Mode.AUTO:
            self._renumber()
        elif before is Mode.FORCED_OPEN:
            self._machine.half_open()
        else:
            self._machine.close()

    def show(self, *, ok: bool) -> None:
        """Notes what a look at a forced breaker said, to be shown and not used."""
        self._probe_ok = ok

    def renew(self) -> None:
        """Closes: what it guards is another thing now."""
        if self.mode is Mode.AUTO:
            self._machine.close()
            self._opened_in_row = 0

    def wakes_in_s(self) -> float | None:
        """When a probe would be let through; None while no probe is needed."""
        if not self.shut:
            return None
        if self.mode is Mode.AUTO and self.state is State.OPEN:
            return max(0.0, self._open_until_s - self._clock())
        return 0.0

    def counts(self) -> dict[str, int]:
        """How many calls ever ended how, and how many were refused why."""
        ok, failed, slow = self.window.totals()
        return {"ok": ok, "failed": failed, "slow": slow, **self._counts}

    def _count(self, outcome: Outcome, took_s: float) -> None:
        window, now_s = self.window, self._clock()
        window.turn_to(int(now_s))
        if outcome is Outcome.OK:
            self.losses = 0
            if took_s > self.rules.slow_s:
                window.slow += 1
            else:
                window.ok += 1
            return
        window.failed += 1
        if outcome is not Outcome.LOST:
            self.losses = 0
            return
        if not self.losses:
            self._silent_since_s = now_s - took_s
        self.losses += 1

    def _tripped(self) -> bool:
        rules, window = self.rules, self.window
        now_s = self._clock()
        if self.losses >= rules.losses_max and now_s - self._silent_since_s >= rules.silence_s:
            return True
        if not (window.failed or window.slow):
            # Good calls alone open nothing.
            return False
        calls, failure_rate, slow_rate = window.rates(int(now_s))
        return calls >= rules.calls_min and (
            failure_rate >= rules.failure_rate_max or failure_rate + slow_rate >= rules.bad_rate_max
        )

    def _probed(self, outcome: Outcome, *, slow: bool) -> None:
        """A permit comes back. A slow success is a failure: what is slow still is not well."""
        self._permits -= 1
        if outcome is Outcome.OK and not slow:
            self._feed(_succeed)
        elif outcome is not Outcome.NEUTRAL:
            self._feed(_fail)

    def _arrive(self, epoch: int) -> None:
        """A probe may be back: all calls that are let through while it is half-open are probes."""
        if epoch >= self.changed_in and self.state is not State.HALF_OPEN:
            return
        began_in = max((began for began in self._probes if began <= epoch), default=None)
        if began_in is not None:
            self._probes[began_in] -= 1
            self._probes += Counter()  # Keeps what is above zero.

    def _feed(self, result: Callable[[], None]) -> None:
        try:
            self._machine.call(result)
        except _Failure:
            return

    def _changed(self, new: str) -> None:
        """Called by the machine, whose own state is not the new one yet; also where it is put into
        the state that it is in.
        """
        now_s = self._clock()
        old, self.state = self.state, _STATES[new]
        if self.state is State.OPEN:
            if old is State.CLOSED and now_s - self._closed_at_s >= _CALM_S:
                self._opened_in_row = 0
            probed = now_s < self._common.prober_until_s
            longest_s = _OPEN_PROBED_MAX_S if probed else _OPEN_MAX_S
            pause_s = min(longest_s, _OPEN_FIRST_S * 2 ** min(self._opened_in_row, 10))
            self._open_until_s = now_s + pause_s * self._common.rng.uniform(
                1 - _JITTER, 1 + _JITTER
            )
            self._opened_in_row += 1
        else:
            # What led to an opening is still to be seen while it is open.
            self.window.clear()
            self._closed_at_s = now_s
        self._renumber()
        if old is not self.state:
            self._common.observer.changed(self.name, old.name, self.state.name)

    def _renumber(self) -> None:
        """Begins an epoch."""
        self._permits = self.losses = 0
        self._common.epoch += 1
        self.changed_in = self._common.epoch
        self.free = self.mode is Mode.AUTO and self.state is State.CLOSED

    def _refusal(self, why: str, retry_after_s: float) -> CircuitOpen:
        self._counts[why] += 1
        return CircuitOpen(self.name, retry_after_s)


class _Failure(Exception):
    """What the machine is told of a failure."""


def _fail() -> None:
    raise _Failure


def _succeed() -> None:
    """What the machine is told of a success."""


class _Storage(pybreaker.CircuitBreakerStorage):
    """The machine's state in memory. Its count of failures is our rule: 1 where it is broken."""

    def __init__(self, tripped: Callable[[], bool]) -> None:
        super().__init__("memory")
        self._tripped = tripped
        self._state = pybreaker.STATE_CLOSED
        self._successes = 0

    @property
    def state(self) -> str:
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state

    @property
    def counter(self) -> int:
        return int(self._tripped())

    @property
    def success_counter(self) -> int:
        return self._successes

    def increment_success_counter(self) -> None:
        self._successes += 1

    def reset_success_counter(self) -> None:
        self._successes = 0

    @property
    def opened_at(self) -> None:
        """Never: how long it stays open is decided here, by another clock."""

    @opened_at.setter
    def opened_at(self, _moment: object) -> None:
        pass


class _Listener(pybreaker.CircuitBreakerListener):
    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed

    def state_change(self, _cb: Any, _old_state: Any, new_state: Any) -> None:  # noqa: ANN401
        self._changed(new_state.name)


_STATES: Final = {
    pybreaker.STATE_CLOSED: State.CLOSED,
    pybreaker.STATE_OPEN: State.OPEN,
    pybreaker.STATE_HALF_OPEN: State.HALF_OPEN,
}
