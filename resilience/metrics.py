"""What the guards do, for Prometheus. Names follow resilience4j where it has them."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from resilience.breaker import State


class PrometheusObserver:
    """An Observer that counts. Gauges are added up, or the worst is taken, over the workers."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._state = Gauge(
            "standings_breaker_state",
            "Workers in which a breaker is in a state.",
            ("name", "state"),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._calls = Counter(
            "standings_breaker_calls",
            "Calls under a breaker, by how they ended.",
            ("name", "kind"),
            registry=registry,
        )
        self._refused = Counter(
            "standings_breaker_not_permitted",
            "Calls that a breaker refused, by why.",
            ("name", "why"),
            registry=registry,
        )
        self._transitions = Counter(
            "standings_breaker_transitions",
            "Changes of a breaker's state.",
            ("name", "from", "to"),
            registry=registry,
        )
        self._failure_rate, self._slow_rate = (
            Gauge(
                f"standings_breaker_{what}_rate",
                f"The {what} part of a breaker's calls, in the worker where it is largest.",
                ("name",),
                registry=registry,
                multiprocess_mode="livemax",
            )
            for what in ("failure", "slow")
        )
        self._probes_most = Gauge(
            "standings_breaker_probes_most",
            "The most probes under a breaker that were ever on their way at once in a worker.",
            ("name",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._retries = Counter(
            "standings_retry", "Calls made a second time.", ("target",), registry=registry
        )
        self._denied = Counter(
            "standings_retry_budget_denied",
            "Second tries that the budget did not allow.",
            registry=registry,
        )
        self._abandoned = Gauge(
            "standings_abandoned_tasks",
            "Calls that go on although nobody waits for them.",
            registry=registry,
            multiprocess_mode="livesum",
        )

    def called(self, name: str, kind: str, count: int) -> None:
        """See Observer.called."""
        self._calls.labels(name, kind).inc(count)

    def refused(self, name: str, why: str, count: int) -> None:
        """See Observer.refused."""
        self._refused.labels(name, why).inc(count)

    def changed(self, name: str, old: str, new: str) -> None:
        """See Observer.changed."""
        self._transitions.labels(name, old.lower(), new.lower()).inc()

    def rated(self, name: str, state: str, failure_rate: float, slow_rate: float) -> None:
        """See Observer.rated."""
        for each in State:
            self._state.labels(name, each.name.lower()).set(each.name == state)
        self._failure_rate.labels(name).set(failure_rate)
        self._slow_rate.labels(name).set(slow_rate)

    def probed(self, name: str, most: int) -> None:
        """See Observer.probed."""
        self._probes_most.labels(name).set(most)

    def retried(self, target: str, *, denied: bool) -> None:
        """See Observer.retried."""
        if denied:
            self._denied.inc()
        else:
            self._retries.labels(target).inc()

    def abandoned(self, delta: int) -> None:
        """See Observer.abandoned."""
        self._abandoned.inc(delta)
