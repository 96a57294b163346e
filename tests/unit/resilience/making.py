"""Breakers under a clock that a test moves."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from resilience.breaker import Breaker, BreakerRules, Common, Outcome
from resilience.breakers import Breakers
from resilience.faults import NO_FAULTS, Fault, Faults
from resilience.observer import NullObserver
from resilience.overrides import Mode

RULES = BreakerRules(slow_s=0.05)


@dataclass
class FakeClock:
    """Time that stands still until it is moved."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


class NoJitter(random.Random):
    """The middle of every range."""

    def uniform(self, a: float, b: float) -> float:
        """Half-way."""
        return (a + b) / 2


@dataclass
class Notes(NullObserver):
    """Keeps what it is told."""

    changes: list[tuple[str, str, str]] = field(default_factory=list)
    calls: dict[tuple[str, str], int] = field(default_factory=dict)
    retries: list[bool] = field(default_factory=list)
    abandoned_count: int = 0

    def changed(self, name: str, old: str, new: str) -> None:
        """Kept in order."""
        self.changes.append((name, old, new))

    def called(self, name: str, kind: str, count: int) -> None:
        """Added up."""
        self.calls[name, kind] = self.calls.get((name, kind), 0) + count

    def refused(self, name: str, why: str, count: int) -> None:
        """Added up with the calls."""
        self.called(name, why, count)

    def retried(self, target: str, *, denied: bool) -> None:
        """Whether it was denied."""
        self.retries.append(denied)

    def abandoned(self, delta: int) -> None:
        """Added up."""
        self.abandoned_count += delta


@dataclass
class Wishes:
    """What operators want."""

    modes: dict[str, Mode] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)

    def mode(self, name: str) -> Mode:
        """As set."""
        return self.modes.get(name, Mode.AUTO)

    def fault(self, target: str) -> Fault | None:
        """As set."""
        return self.faults.get(target)


def a_breaker(
    clock: FakeClock, rules: BreakerRules = RULES, observer: NullObserver | None = None
) -> Breaker:
    """A breaker of its own, without jitter."""
    common = Common(clock=clock, rng=NoJitter(), observer=observer or NullObserver())
    return Breaker("store/one", rules, common)


def some_breakers(
    *names: str,
    clock: Callable[[], float],
    wishes: Wishes | None = None,
    faults: Faults | None = None,
    observer: NullObserver | None = None,
) -> Breakers:
    """Breakers without jitter."""
    return Breakers(
        dict.fromkeys(names, RULES),
        rng=NoJitter(),
        clock=clock,
        overrides=wishes or Wishes(),
        faults=faults or wishes or NO_FAULTS,
        observer=observer,
    )


def call(breaker: Breaker, outcome: Outcome, took_s: float = 0.0) -> None:
    """A call that is let through and ends."""
    breaker.settle(breaker.admit(), outcome, took_s)


def trip(breaker: Breaker) -> None:
    """Opens a breaker by lost calls."""
    while not breaker.shut:
        call(breaker, Outcome.LOST)
