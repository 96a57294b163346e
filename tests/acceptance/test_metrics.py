"""Every metric moves: one that never does is a defect, of the metric or of its test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from cli.serving import breaker_measures, serving
from server import metrics
from standings_client import AsyncClient, Board, EntryView, StandingsError, Submission
from tests.fakes.making import board_spec, submission
from tests.fixtures.keeping import Kept
from tests.fixtures.processes import time_until
from tests.fixtures.redis import empty
from tests.fixtures.server import RunningServer, settings_for

pytestmark = pytest.mark.grpcio_only("it looks at the metrics of the test's own process")

IN_TROUBLE = {
    "standings_abandoned_tasks",
    "standings_breaker_failure_rate",
    "standings_breaker_not_permitted",
    "standings_breaker_probes_most",
    "standings_breaker_state",
    "standings_breaker_transitions",
    "standings_retry",
    "standings_calls_refused",
    "standings_index_apply_missed",
    "standings_index_asked_alone",
    "standings_pool_waiting",
    "standings_queue_depth",
    "standings_stale_seconds",
}
"""What moves only when something is wrong."""
AFTER_A_DEATH = {"standings_index_replayed"}
OF_OPERATORS = {
    "standings_breaker_override",
    "standings_fault_injected",
    "standings_override_version_lag",
}
"""tests/unit/server/test_levers.py looks at them."""
OF_GUARDS = {"standings_breaker_slow_rate", "standings_retry_budget_denied"}
"""tests/unit/resilience/test_metrics.py looks at them."""
OF_BUGS = {"standings_shadow_differences"}
OF_TRACES = {"standings_trace_spans"}
"""tests/acceptance/test_traces.py looks at it."""
OF_SUPERVISORS = {"standings_worker_ends", "standings_worker_memory_bytes"}
"""tests/acceptance/test_workers.py looks at them."""
OF_REPLICAS = {"standings_database_reads", "standings_replica_lag_seconds"}
"""tests/acceptance/test_replicas.py looks at them."""
OF_AUDIT = {
    "standings_audit_broken",
    "standings_audit_refused",
    "standings_audit_unshipped_lines",
}
"""Operators and lost disks move them."""
OF_IDENTITY = {
    "standings_identity_reload_failures",
    "standings_tls_certificate_expire_timestamp_seconds",
}
"""tests/acceptance/test_auth_rows.py looks at them."""
OF_LIMITS = {"standings_limited_calls", "standings_limit_held_seconds"}
"""tests/acceptance/test_rate_limits.py looks at them."""
OF_ROOMS = AFTER_A_DEATH | OF_OPERATORS | OF_GUARDS | OF_BUGS
ELSEWHERE = OF_ROOMS | OF_SUPERVISORS | OF_REPLICAS | OF_TRACES
ELSEWHERE |= OF_AUDIT | OF_IDENTITY | OF_LIMITS
USERS = range(1, 201)


def _metrics() -> Mapping[str, MetricWrapperBase]:
    """Every metric of every room, by name."""
    breaker_measures()
    collectors = [*REGISTRY._collector_to_names, metrics.WORKER_ENDS, metrics.WORKER_MEMORY]
    named = {c.describe()[0].name: c for c in collectors if isinstance(c, MetricWrapperBase)}
    return {name: metric for name, metric in named.items() if name.startswith("standings_")}


class Moved:
    """The names of the metrics that have had another value than at first."""

    def __init__(self) -> None:
        self._metrics = _metrics()
        self._first = {name: _samples(metric) for name, metric in self._metrics.items()}
        self.names: set[str] = set()

    def look(self) -> None:
        """Looks at those that have not moved yet."""
        for name in self._metrics.keys() - self.names:
            if _samples(self._metrics[name]) != self._first[name]:
                self.names.add(name)

    async def watch(self) -> None:
        """Looks again and again: some come back to where they were."""
        while True:
            self.look()
            await asyncio.sleep(0.005)

    async def include(self, *names: str) -> None:
        """Returns when all these have moved."""
        await time_until(lambda: self.names.issuperset(names))


def _samples(metric: MetricWrapperBase) -> list[Any]:
    # `_created` comes with the first use of a label, and says nothing.
    return [
        (sample.name, sample.labels, sample.value)
        for family in metric.collect()
        for sample in family.samples
        if sample.value and not sample.name.endswith("_created")
    ]


@pytest.fixture
async def moved() -> AsyncIterator[Moved]:
    """Looks at all metrics while a test runs."""
    moved = Moved()
    watching = asyncio.create_task(moved.watch())
    yield moved
    watching.cancel()


def _batch() -> list[Submission]:
    return [Submission("arena", user, user) for user in USERS]


def test_names_are_known() -> None:
    """What the lists above name exists."""
    assert _metrics().keys() >= IN_TROUBLE | ELSEWHERE


async def test_every_metric_moves(standings: RunningServer, moved: Moved) -> None:
    """An ordinary day moves all but those that tell of trouble."""
    ordinary = _metrics().keys() - IN_TROUBLE - ELSEWHERE
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    await client.batch_submit_scores(_batch())
    await asyncio.gather(*(client.get_entry("arena", user) for user in USERS[:20]))
    end_s = time.monotonic() + 60
    while not ordinary <= moved.names and time.monotonic() < end_s:
        # PostgreSQL tells its statistics at the end of a transaction, once a second.
        await client.submit_score("arena", USERS[0], 1)
        await asyncio.sleep(0.1)

    assert ordinary <= moved.names


@asynccontextmanager
async def _narrow(database: str, cluster: EmbeddedRedisCluster) -> AsyncIterator[AsyncClient]:
    """The client of a server that soon gives up on Redis and holds few calls."""
    await empty(cluster)
    settings = settings_for(database, cluster)
    quick = {"operation_timeout_s": 0.3, "response_timeout_s": 0.3}
    narrow = settings.server.model_copy(update={"in_flight_max": 20})
    changes = {"redis": settings.redis.model_copy(update=quick), "server": narrow}
    async with (
        serving(settings.model_copy(update=changes)) as addresses,
        AsyncClient(addresses.public, timeout_s=20) as client,
    ):
        yield client


async def test_trouble_moves_the_others(
    database: str,
    postgres_faults: EmbeddedPostgres,
    redis_faults: EmbeddedRedisCluster,
    moved: Moved,
) -> None:
    """A frozen node, a frozen PostgreSQL and more calls than a server holds."""
    async with _narrow(database, redis_faults) as client:
        await client.boards.create(Board(board_id="arena"))
        await client.batch_submit_scores(_batch())
        await asyncio.gather(*(client.get_entry("arena", user) for user in USERS[:20]))

        frozen = [redis_faults.node(node) for node in redis_faults.addresses]
        for node in frozen:
            node.freeze()
        await client.batch_submit_scores(
            [Submission("arena", user, 1_000 + user) for user in USERS]
        )
        await client.get_entry("arena", USERS[0])
        for node in frozen:
            node.thaw()
        await moved.include("standings_index_apply_missed", "standings_index_asked_alone")

        postgres_faults.freeze()
        calls = [asyncio.ensure_future(client.submit_score("arena", 1, 1))]
        await moved.include("standings_queue_depth")
        with pytest.raises(StandingsError):
            await client.get_entry("arena", 1, view=EntryView.FULL, timeout_s=0.3)
        await moved.include("standings_abandoned_tasks")
        calls += [
            asyncio.ensure_future(client.get_entry("arena", user, view=EntryView.FULL))
            for user in USERS[:50]
        ]
        await moved.include("standings_pool_waiting", "standings_calls_refused")
        postgres_faults.thaw()
        await asyncio.gather(*calls, return_exceptions=True)

    assert IN_TROUBLE <= moved.names


async def test_the_healer_tells_what_it_brings(kept: Kept, moved: Moved) -> None:
    """A worker died between commit and index."""
    board = await kept.boards.create(board_spec())
    await kept.build.season(board.season.number)
    await kept.record(board, [submission(user, 1) for user in USERS])
    await kept.catch_up()
    moved.look()

    assert AFTER_A_DEATH <= moved.names


async def test_a_difference_between_the_stores_is_told(
    standings: RunningServer, database: str, moved: Moved
) -> None:
    """An entry that is in the index and not in the ledger, which only a bug could bring about."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    token = (await client.submit_score("arena", 1, 1)).consistency_token
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("delete from entries")
    end_s = time.monotonic() + 30
    while not moved.names >= OF_BUGS and time.monotonic() < end_s:
        await client.get_entry("arena", 1, consistency_token=token)
        await asyncio.sleep(0.1)

    assert moved.names >= OF_BUGS
