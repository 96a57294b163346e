"""A ledger that is measured."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from core.flushes import Flush, FlushResult
from core.ports import Ledger
from core.types import Outcome, Recorded, Standing
from storage import metrics


@dataclass(frozen=True, slots=True)
class ObservedLedger:
    """The `Ledger` port over another one, which it measures. Cost: some microseconds a flush."""

    ledger: Ledger

    def require(self) -> None:
        """See `Ledger.require`."""
        self.ledger.require()

    async def record(
        self, flush: Flush, arrived: Callable[[], object] = lambda: None
    ) -> FlushResult:
        """See `Ledger.record`."""
        start_s = time.monotonic()
        result = await self.ledger.record(flush, arrived)
        metrics.FLUSH_SECONDS.observe(time.monotonic() - start_s)
        metrics.FLUSH_SIZE.observe(len(flush.placed))
        # By kind, so that a counter is told once a flush and not once a submission.
        kinds = Counter(
            outcome.outcome if isinstance(outcome, Recorded) else outcome.reason
            for outcome in result.results.values()
        )
        for kind, count in kinds.items():
            if isinstance(kind, Outcome):
                metrics.OUTCOMES[kind].inc(count)
            else:
                metrics.SUBMISSIONS.labels(kind.lower()).inc(count)
        return result

    async def standings(
        self, season_number: int, user_ids: Sequence[int]
    ) -> Mapping[int, Standing]:
        """See `Ledger.standings`."""
        return await self.ledger.standings(season_number, user_ids)
