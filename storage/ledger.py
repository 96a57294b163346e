"""The ledger: submissions in, first outcomes out, one transaction a flush."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from typing import Final, TypeAlias

from psycopg.pq.abc import PGresult

from core.errors import (
    BoardChanged,
    StandingsError,
    WriteConflict,
)
from core.flushes import Flush, FlushResult, Placed
from core.types import IndexChange, Recorded, Standing, shard_of
from core.waves import waves_of
from storage.batch import (
    RecordRow,
    StoredRow,
    duplicate_of,
    ids_of,
    outcome_of,
    parameters_of,
    window_of,
)
from storage.exchange import Steps, Talk, transaction
from storage.exchange import run as converse
from storage.pool import DATA_ERRORS, Connection, Pool, query, refused
from storage.settings import PostgresSettings
from storage.statement import Statement
from storage.transactions import until_no_twin

_ROW_ERRORS: Final = (*DATA_ERRORS, WriteConflict)
"""What one row can do to its whole batch; everything else speaks of the server."""
_NEXT_ARRIVAL: Final = Statement.of("select nextval('arrival_flush') * 1024")
_BRIEF_LOCKS: Final = b"set local lock_timeout = '20ms'"
_Told: TypeAlias = tuple[Placed, RecordRow]
"""A submission, and what became of it in a transaction that may not have committed yet."""
_Read: TypeAlias = tuple[Sequence[_Told], Sequence[Placed], PGresult]
"""What is told of all waves but the last one, and that with its rows as they came."""
_Done: TypeAlias = tuple[FlushResult, Sequence[Placed]]
"""What a transaction did, and the submissions that were recorded before."""
_KNOWN: Final = "known"
_BOARD_CHANGED: Final = b"board changed"
_REFUSAL_COLUMN: Final = RecordRow._fields.index("refusal")


@dataclass(slots=True)
class _Arrival:
    """The first arrival number of a flush, and who waits until it is known."""

    number: int | None
    arrived: Callable[[], object]
    bound: asyncio.Timeout | None = None

    def give(self, number: int) -> None:
        """Says what it is."""
        self.number = number
        if self.bound is not None:
            self.bound.reschedule(None)
        self.arrived()

    def give_up(self) -> None:
        """Says that it will not be known, if it is not."""
        if self.number is None:
            self.arrived()


class PostgresLedger:
    """The `Ledger` port on PostgreSQL."""

    def __init__(self, settings: PostgresSettings, *, write: Pool, read: Pool) -> None:
        self._write = write
        self._read = read
        self._write_timeout_s = settings.write_timeout_ms / 1000
        self._read_timeout_s = settings.read_timeout_ms / 1000
        self._window = window_of(past=settings.submission_window, future=settings.submission_ahead)
        self._record = Statement.load("record")
        self._recorded = Statement.load("recorded")
        self._standings = Statement.load("standings")

    def require(self) -> None:
        """See `Ledger.require`."""
        self._write.require()

    async def record(
        self, flush: Flush, arrived: Callable[[], object] = lambda: None
    ) -> FlushResult:
        """See `Ledger.record`. Two round trips where no (board, user) stands in it twice."""
        result = FlushResult()
        arrival = _Arrival(flush.arrival, arrived)
        try:
            await self._record_some(arrival, flush.placed, result, split=False)
        finally:
            arrival.give_up()
        result.arrival = arrival.number
        return result

    async def standings(
        self, season_number: int, user_ids: Sequence[int]
    ) -> Mapping[int, Standing]:
        """See `Ledger.standings`. One round trip, by primary key."""
        rows = await query(
            self._read,
            self._standings,
            {
                "season_no": season_number,
                "shard": sorted({shard_of(user_id) for user_id in user_ids}),
                "user_id": list(user_ids),
            },
            timeout_s=self._read_timeout_s,
            idempotent=True,
        )
        return {row[0]: Standing(*row) for row in rows}

    async def _record_some(
        self, arrival: _Arrival, placed: Sequence[Placed], result: FlushResult, *, split: bool
    ) -> None:
        """Records these in one transaction or, where a row is refused, in two halves one after
        the other, so that a bad row ends up alone (PROTOCOL P11).
        """
        try:
            done, known = await self._transact(arrival, placed, patient=not split)
        except _ROW_ERRORS as error:
            if len(placed) == 1 or isinstance(error, BoardChanged):
                reason = error if isinstance(error, WriteConflict) else refused(error)
                result.results |= {item.place: reason for item in placed}
                return
            middle = len(placed) // 2
            for part in (placed[:middle], placed[middle:]):
                await self._record_some(arrival, part, result, split=True)
                if isinstance(result.results[part[-1].place], BoardChanged):
                    # The second half must not be recorded before the first.
                    result.results |= {item.place: BoardChanged() for item in placed[middle:]}
                    return
            return
        except StandingsError as error:
            result.results |= {item.place: error for item in placed}
            return
        result.add(done)
        if known:
            result.results |= await self._first_outcomes(known)

    async def _transact(
        self, arrival: _Arrival, placed: Sequence[Placed], *, patient: bool
    ) -> _Done:
        """Runs the transaction. The ids make a second run harmless also where the first one's
        end is unknown. It ends: a flush that never came back would hold up its users for ever.
        """
        waves = waves_of(placed)

        async def run(connection: Connection) -> _Done:
            return await self._run(connection, arrival, waves, patient=patient)

        return await until_no_twin(
            self._write,
            run,
            timeout_s=self._write_timeout_s * len(waves),
            checkout_s=self._arrival_s() if arrival.number is None else None,
        )

    async def _run(
        self,
        connection: Connection,
        arrival: _Arrival,
        waves: Sequence[Sequence[Placed]],
        *,
        patient: bool,
    ) -> _Done:
        def steps(talk: Talk) -> Steps[_Done]:
            work = self._steps(talk, arrival, waves, patient=patient)
            return transaction(talk, work, partial(_done_of, talk))

        if arrival.number is not None:
            return await converse(connection, steps)
        async with asyncio.timeout(self._arrival_s()) as bound:
            arrival.bound = bound
            return await converse(connection, steps)

    def _arrival_s(self) -> float:
        """What it may take to get a connection, and then an arrival number. All other flushes wait
        for it, and it waits for no disk: a server that does not answer is found out by it, within
        a second.
        """
        return self._write.patience_s(self._write_timeout_s / 4)

    def _steps(
        self, talk: Talk, arrival: _Arrival, waves: Sequence[Sequence[Placed]], *, patient: bool
    ) -> Steps[_Read]:
        """Raises BoardChanged, and then nothing is recorded.

        Committed by a message of its own: a server that was silent may read long after what was
        given up. Nobody commits that then, and a commit that comes late still holds the locks that
        keep later submissions behind it.
        """
        talk.command(b"begin")
        if not patient:
            # The full patience was spent once; each half waits a little only.
            talk.command(_BRIEF_LOCKS)
        new = arrival.number is None
        if new:
            talk.query(_NEXT_ARRIVAL, {})
            talk.hurry()
        self._send_wave(talk, arrival, waves[0], earlier=(), last=len(waves) == 1)
        yield from talk.done()
        if not patient:
            yield from talk.done()
        if new:
            ((number,),) = yield from talk.rows()
            arrival.give(number)
        earlier: list[_Told] = []
        last = waves[-1]
        for wave, following in pairwise(waves):
            earlier += _told_of(talk, wave, (yield from _read_wave(talk)))
            self._send_wave(talk, arrival, following, earlier=earlier, last=following is last)
        return earlier, last, (yield from _read_wave(talk))

    def _send_wave(
        self,
        talk: Talk,
        arrival: _Arrival,
        wave: Sequence[Placed],
        *,
        earlier: Sequence[_Told],
        last: bool,
    ) -> None:
        changed = [(item, row) for item, row in earlier if row.item is not None]
        own = {
            "arrival": arrival.number,
            "last_wave": last,
            "earlier_season_no": [row.season_no for _, row in changed],
            "earlier_user_id": [item.submission.user_id for item, _ in changed],
        }
        talk.query(self._record, parameters_of(wave) | self._window | own)
        talk.sync()

    async def _first_outcomes(
        self, known: Sequence[Placed]
    ) -> Mapping[int, Recorded | StandingsError]:
        """What those that were recorded before are told, by their places."""
        try:
            rows = await query(
                self._write,
                self._recorded,
                ids_of(known),
                timeout_s=self._write_timeout_s,
                idempotent=True,
            )
        except StandingsError as error:
            return {item.place: error for item in known}
        first = {row[0]: StoredRow._make(row) for row in rows}
        return {
            item.place: duplicate_of(item, first[item.submission.submission_id]) for item in known
        }


def _read_wave(talk: Talk) -> Steps[PGresult]:
    """The rows of a wave. Looks at their refusals alone: all else can wait until the server has
    something to do. Raises BoardChanged.
    """
    rows = yield from talk.raw_rows()
    yield from talk.synced()
    for number in range(rows.ntuples):
        if rows.get_value(number, _REFUSAL_COLUMN) == _BOARD_CHANGED:
            raise BoardChanged
    return rows


def _told_of(talk: Talk, wave: Sequence[Placed], rows: PGresult) -> list[_Told]:
    return [(wave[row[0] - 1], RecordRow._make(row)) for row in talk.loaded(rows)]


def _done_of(talk: Talk, read: _Read) -> _Done:
    earlier, last, rows = read
    done, known = FlushResult(), list[Placed]()
    for item, row in chain(earlier, _told_of(talk, last, rows)):
        if row.refusal == _KNOWN:
            known.append(item)
        else:
            done.results[item.place] = outcome_of(item, row)
        if row.item is not None:
            change = IndexChange(row.season_no, shard_of(item.submission.user_id), row.item)
            done.changes.setdefault(row.xid, []).append(change)
    return done, known
