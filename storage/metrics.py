"""What the ledger and the pools measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from core.types import Outcome

FLUSH_SIZE: Final = Histogram(
    "standings_flush_submissions",
    "Submissions of a flush.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1024),
)
FLUSH_SECONDS: Final = Histogram(
    "standings_flush_seconds",
    "How long PostgreSQL took to record a flush.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
SUBMISSIONS: Final = Counter(
    "standings_submissions", "Submissions by what became of them.", ["outcome"]
)
QUEUE_DEPTH: Final = Gauge(
    "standings_queue_depth",
    "Submissions taken in and not yet answered.",
    multiprocess_mode="livesum",
)
POOL_WAITING: Final = Gauge(
    "standings_pool_waiting",
    "Callers that wait for a connection.",
    ["target"],
    multiprocess_mode="livesum",
)
OUTBOX_ROWS: Final = Gauge(
    "standings_outbox_rows",
    "Transactions that the outbox remembers, as PostgreSQL estimates it.",
    multiprocess_mode="livemostrecent",
)
REPLICA_LAG: Final = Gauge(
    "standings_replica_lag_seconds",
    "How old the state of a replica is at most; infinite where it does not answer or is no standby"
    " of this primary.",
    ["replica"],
    multiprocess_mode="livemax",
)
DATABASE_READS: Final = Counter(
    "standings_database_reads",
    "Reads of ranks that PostgreSQL answered in the index's place, by the server that did.",
    ["target"],
)
SHADOW_READS: Final = Counter(
    "standings_shadow_reads", "Answers of the index that were held against PostgreSQL."
)
SHADOW_DIFFERENCES: Final = Counter(
    "standings_shadow_differences", "Those of them that differed, and still did a second later."
)

OUTCOMES: Final[Mapping[Outcome, Counter]] = {
    outcome: SUBMISSIONS.labels(outcome.name.lower()) for outcome in Outcome
}
"""Of recorded submissions; one that failed counts under the reason of its error."""


def shadow_compared(differ: bool) -> None:  # noqa: FBT001 - as core.shadow_reads calls it
    """Counts a comparison."""
    SHADOW_READS.inc()
    if differ:
        SHADOW_DIFFERENCES.inc()
