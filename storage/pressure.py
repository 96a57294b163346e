"""How much waits for PostgreSQL, and how much it remembers for the index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from storage import metrics
from storage.pool import Pool, query
from storage.statement import Statement

_TIMEOUT_S: Final = 5.0
# To count them would read a day's transactions.
_OUTBOX_ROWS: Final = Statement.of(
    "select n_live_tup from pg_stat_user_tables where relid = 'outbox'::regclass"
)


@dataclass(frozen=True, slots=True)
class Pressure:
    """Who waits: callers for a connection, by what the pool is for, and submissions."""

    pools: Mapping[str, Pool]

    def measure(self, queue_depth: int) -> None:
        """Notes so many submissions, and looks at all pools."""
        metrics.QUEUE_DEPTH.set(queue_depth)
        for target, pool in self.pools.items():
            metrics.POOL_WAITING.labels(target).set(pool.waiting_count)


@dataclass(frozen=True, slots=True)
class OutboxRows:
    """How many transactions the outbox holds."""

    pool: Pool

    async def __call__(self) -> None:
        """Asks PostgreSQL. One round trip. Raises LedgerUnavailable."""
        for (rows,) in await query(self.pool, _OUTBOX_ROWS, {}, timeout_s=_TIMEOUT_S):
            metrics.OUTBOX_ROWS.set(rows)
