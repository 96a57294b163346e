"""What Prometheus is told."""

from prometheus_client import CollectorRegistry, generate_latest

from resilience.breaker import Outcome
from resilience.metrics import PrometheusObserver
from tests.unit.resilience.making import FakeClock, call, some_breakers, trip


def test_every_count_has_its_name() -> None:
    """Calls by their end, refusals by their reason, changes, states, rates and second tries."""
    registry, clock = CollectorRegistry(), FakeClock()
    observer = PrometheusObserver(registry)
    names = ("redis/shard-00", "redis/shard-01", "redis/shard-02")
    breakers = some_breakers(*names, clock=clock, observer=observer)
    call(breakers["redis/shard-00"], Outcome.OK)
    trip(breakers["redis/shard-00"])
    call(breakers["redis/shard-01"], Outcome.OK, took_s=1.0)
    trip(breakers["redis/shard-02"])
    clock.now_s += 1
    for _ in range(2):
        breakers["redis/shard-02"].admit()
    breakers.tell()
    observer.retried("redis/shard-00", denied=False)
    observer.retried("redis/shard-00", denied=True)
    observer.refused("redis/shard-00", "open", 3)
    observer.abandoned(1)

    text = generate_latest(registry).decode()

    for line in (
        'standings_breaker_calls_total{kind="ok",name="redis/shard-00"} 1.0',
        'standings_breaker_calls_total{kind="failed",name="redis/shard-00"} 5.0',
        'standings_breaker_transitions_total{from="closed",name="redis/shard-00",to="open"} 1.0',
        'standings_breaker_probes_most{name="redis/shard-02"} 2.0',
        'standings_breaker_state{name="redis/shard-00",state="open"} 1.0',
        'standings_breaker_state{name="redis/shard-00",state="closed"} 0.0',
        'standings_breaker_not_permitted_total{name="redis/shard-00",why="open"} 3.0',
        'standings_retry_total{target="redis/shard-00"} 1.0',
        "standings_retry_budget_denied_total 1.0",
        'standings_breaker_slow_rate{name="redis/shard-01"} 1.0',
        "standings_abandoned_tasks 1.0",
    ):
        assert line in text
    assert 'standings_breaker_failure_rate{name="redis/shard-00"} 0.83' in text
