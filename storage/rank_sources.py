"""Whom a read by rank keys asks: the primary, or somebody who says how far it has followed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from core.ports import Clock
from core.snapshots import Snapshot
from storage.pool import Pool, Row, query
from storage.rank_counts import Estimate
from storage.rank_writes import RecentWrites, Writes
from storage.statement import Statement


@dataclass(frozen=True, slots=True)
class Instant:
    """Of when something was read: all that was committed before `as_of_ms` (wall clock) is in it.

    `horizon`: every transaction below is in it as well, and of others nobody knows; None: it is
    the primary, which has them all.
    """

    as_of_ms: int
    horizon: int | None = None

    def suits(self, estimate: Estimate) -> bool:
        """Whether the bounds of an estimate hold for what was read."""
        behind = self.horizon is not None and self.horizon < estimate.snapshot.horizon
        return not behind and self.as_of_ms >= estimate.least_ms


class RankSource(Protocol):
    """A PostgreSQL that answers statements of `storage.rank_statements`."""

    async def rows(
        self, statement: Statement, parameters: Mapping[str, Any], *, timeout_s: float
    ) -> tuple[list[Row], Instant]:
        """The rows of a statement, and of when they are. Raises LedgerUnavailable, QueueFull,
        WriteConflict.
        """

    async def writes(self, snapshot: Snapshot, *, now: bool) -> Writes | None:
        """By how much a snapshot's counts can be off for what `rows` tells; None: that cannot be
        told. `now`: as of this call. Raises LedgerUnavailable, QueueFull, WriteConflict.
        """


class PrimarySource:
    """The `RankSource` of the primary; `pool` leads there."""

    def __init__(self, pool: Pool, clock: Clock, *, timeout_s: float) -> None:
        self._pool = pool
        self._clock = clock
        self._writes = RecentWrites(pool, clock, timeout_s=timeout_s)

    async def rows(
        self, statement: Statement, parameters: Mapping[str, Any], *, timeout_s: float
    ) -> tuple[list[Row], Instant]:
        """See `RankSource.rows`. Cost: one round trip."""
        instant = Instant(self._clock.now_ms())
        return await query(self._pool, statement, parameters, timeout_s=timeout_s), instant

    async def writes(self, snapshot: Snapshot, *, now: bool) -> Writes | None:
        """See `RankSource.writes`."""
        writes = await self._writes.since(snapshot, now=now)
        return None if writes.counts is None else writes
