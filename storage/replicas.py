"""Standbys of the primary that reads are sent to, and what is known of each."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from core.errors import LedgerUnavailable, StandingsError
from core.ports import Clock
from core.snapshots import Snapshot
from resilience.deadline import within
from storage import metrics
from storage.pool import Connection, Pool, Row, execute, translated
from storage.positions import Position, PrimaryMarks, position_of
from storage.rank_sources import Instant, PrimarySource
from storage.rank_statements import WRITES_SEEN
from storage.rank_writes import RecentWrites, Writes
from storage.statement import Statement

_LOOK_S: Final = 1.0
"""One short statement for each server, of each worker."""
_LOOK_TIMEOUT_S: Final = 0.5
_PATIENCE_S: Final = 0.1
"""How long a read of a replica waits for what the primary says of recent writes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """What was last seen of a replica: it has all that was committed before `as_of_s`, by the
    monotonic clock, and every transaction below `horizon`.
    """

    as_of_s: float
    horizon: int


class Replica:
    """One standby, as a `RankSource`; `primary` is the one of the primary.

    What it tells was measured on the connection that was read on: there may be several servers
    behind one address.
    """

    def __init__(
        self,
        name: str,
        pool: Pool,
        marks: PrimaryMarks,
        primary: PrimarySource,
        clock: Clock,
        *,
        timeout_s: float,
    ) -> None:
        self.name = name
        self.known: Known | None = None
        """None: nobody knows how old it is, or it is no standby of this primary."""
        self._pool = pool
        self._marks = marks
        self._primary = primary
        self._clock = clock
        self._own_writes = RecentWrites(pool, clock, timeout_s=timeout_s, statement=WRITES_SEEN)

    @property
    def lag_s(self) -> float:
        """How old its state is at most; infinite where nobody knows."""
        if self.known is None:
            return math.inf
        return self._clock.monotonic_s() - self.known.as_of_s

    @property
    def shut(self) -> bool:
        """Whether its breaker lets nothing through."""
        try:
            self._pool.require()
        except LedgerUnavailable:
            return True
        return False

    async def rows(
        self, statement: Statement, parameters: Mapping[str, Any], *, timeout_s: float
    ) -> tuple[list[Row], Instant]:
        """See `RankSource.rows`; LedgerUnavailable also where it turns out to be no standby of this
        primary. Cost: two round trips.
        """

        async def read(connection: Connection) -> tuple[list[Row], Instant]:
            # Before the statement: what it shows has come at least as far.
            known = self._placed(await position_of(connection))
            if known is None:
                raise LedgerUnavailable
            rows = await execute(connection, statement, parameters)
            return rows, Instant(self._as_of_ms(known), known.horizon)

        return await self._pool.run(read, timeout_s=timeout_s, idempotent=False)

    async def writes(self, snapshot: Snapshot, *, now: bool) -> Writes | None:
        """See `RankSource.writes`: by what the primary has, which is not less; where that does not
        answer, by what was replayed here.
        """
        known = self.known
        if known is None or known.horizon < snapshot.horizon:
            # It may lack what the snapshot has, and nobody counts that.
            return None
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._primary.writes(snapshot, now=now)
        except (StandingsError, TimeoutError):
            as_of_ms = self._as_of_ms(known)
        if as_of_ms < snapshot.read_ms:
            # What the snapshot has beyond it, nobody counts either.
            return None
        writes = await self._own_writes.since(snapshot, now=now)
        return (
            None
            if writes.counts is None
            else replace(writes, as_of_ms=min(writes.as_of_ms, as_of_ms), least_ms=snapshot.read_ms)
        )

    async def look(self) -> None:
        """Finds out how old its state is, through its breaker, which so opens where nobody reads.
        Cost: one round trip.
        """
        try:
            position = await self._pool.run(
                position_of, timeout_s=_LOOK_TIMEOUT_S, idempotent=False
            )
            known = self._placed(position)
        except StandingsError:
            # Behind its address there may be another one when it answers again.
            known = None
        self.known = known
        metrics.REPLICA_LAG.labels(self.name).set(self.lag_s)

    def _placed(self, position: Position) -> Known | None:
        as_of_s = self._marks.as_of_s(position)
        return None if as_of_s is None else Known(as_of_s, position.horizon)

    def _as_of_ms(self, known: Known) -> int:
        now_ms = self._clock.now_ms()
        return now_ms - math.ceil((self._clock.monotonic_s() - known.as_of_s) * 1000)


class ReplicaWatch:
    """Keeps an eye on the primary and its replicas, in each worker."""

    def __init__(
        self, primary: Pool, replicas: Sequence[Replica], marks: PrimaryMarks, clock: Clock
    ) -> None:
        self._primary = primary
        self._replicas = replicas
        self._marks = marks
        self._clock = clock

    async def run(self) -> None:
        """Looks once a second; never returns."""
        while True:
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - a bug in one look must not end the looking
                _log.exception("the replicas could not be looked at")
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Asks the primary where it is, past its breaker, because replicas are of no known age
        without; then all of them how far they are.
        """

        async def look() -> Position:
            async with self._primary.connection() as connection:
                return await position_of(connection)

        # Before the question: the answer holds for all that was committed until then.
        asked_s = self._clock.monotonic_s()
        try:
            with translated():
                self._marks.note(await within(_LOOK_TIMEOUT_S, look()), asked_s)
        except StandingsError as error:
            _log.debug("the primary was not seen", extra={"reason": error.reason})
        await asyncio.gather(*(replica.look() for replica in self._replicas))
