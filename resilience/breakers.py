"""The breakers of a worker, by name."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from resilience.breaker import Breaker, BreakerReport, BreakerRules, Common
from resilience.faults import NO_FAULTS, Faults
from resilience.observer import NullObserver, Observer
from resilience.overrides import NO_OVERRIDES, Overrides, mode_of
from resilience.retry import RetryBudget

_LOOK_S: Final = 0.025
"""How long an override or a fault may go unseen by calls."""


class Breakers:
    """A set of breakers, each named <parent>/<child>, and what they have in common.

    Calls see what operators want at once if it is 25 ms old. A parent is no breaker: it counts as
    open while more than half of its children are.
    """

    def __init__(
        self,
        rules: Mapping[str, BreakerRules],
        *,
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
        overrides: Overrides = NO_OVERRIDES,
        faults: Faults = NO_FAULTS,
        observer: Observer | None = None,
    ) -> None:
        self.common = Common(clock=clock, rng=rng, observer=observer or NullObserver())
        self.budget = RetryBudget()
        self.faulty = False
        """Whether any fault is set."""
        self._breakers = {name: Breaker(name, rules[name], self.common) for name in rules}
        self._overrides = overrides
        self._faults = faults
        self._look_at_s = 0.0
        self._told: dict[str, dict[str, int]] = {name: {} for name in rules}
        self._rated: dict[str, tuple[tuple[str, float, float], int]] = {}

    def __getitem__(self, name: str) -> Breaker:
        return self._breakers[name]

    def __iter__(self) -> Iterator[Breaker]:
        return iter(self._breakers.values())

    @property
    def parents(self) -> Sequence[str]:
        """The names before the slash, each once."""
        return list(dict.fromkeys(name.partition("/")[0] for name in self._breakers))

    def expand(self, pattern: str) -> Sequence[str]:
        """The breakers that a name stands for: one, all of a parent (redis/*), or all (*); none
        where nothing has that name.
        """
        if pattern == "*":
            return list(self._breakers)
        if pattern.endswith("/*"):
            return [name for name in self._breakers if name.startswith(pattern[:-1])]
        return [pattern] if pattern in self._breakers else []

    def is_open(self, parent: str) -> bool:
        """Whether more than half of a parent's breakers let nothing through."""
        children = [self._breakers[name] for name in self.expand(f"{parent}/*")]
        return 2 * sum(child.shut for child in children) > len(children)

    def reports(self) -> Sequence[BreakerReport]:
        """How each breaker is now."""
        self.look()
        return [breaker.report() for breaker in self]

    def glance(self, now_s: float) -> None:
        """Looks at what operators want, unless that was done a moment ago. Every call does it."""
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + _LOOK_S
            self.look()

    def look(self) -> None:
        """Looks at what operators want now."""
        faulty = False
        for name, breaker in self._breakers.items():
            fault = self._faults.fault(name)
            faulty |= fault is not None
            breaker.look(mode_of(self._overrides, name), fault)
        self.faulty = faulty

    def tell(self) -> None:
        """Tells the observer what was counted since the last time."""
        observer = self.common.observer
        for name, breaker in self._breakers.items():
            counts = breaker.counts()
            told = self._told[name]
            for kind, count in counts.items():
                more = count - told.get(kind, 0)
                if more:
                    tell = observer.refused if kind in _REFUSALS else observer.called
                    tell(name, kind, more)
            self._told[name] = counts
            _, state, _, rates, _, _ = breaker.report()
            self._rate(name, (state.name, rates.failure_rate, rates.slow_rate), breaker.probes_most)

    def _rate(self, name: str, rated: tuple[str, float, float], probes_most: int) -> None:
        """Most of the time most breakers are as they were."""
        if (rated, probes_most) != self._rated.get(name):
            self._rated[name] = (rated, probes_most)
            self.common.observer.rated(name, *rated)
            self.common.observer.probed(name, probes_most)


_REFUSALS: Final = ("open", "probe", "forced")
