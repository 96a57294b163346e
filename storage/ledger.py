"""The ledger: submissions in, first outcomes out, one transaction a flush."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from core.errors import (
    BoardChanged,
    StandingsError,
    WriteConflict,
)
from core.ports import Flush, FlushResult, Placed
from core.types import IndexChange, Standing, shard_of
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
from storage.pool import DATA_ERRORS, Connection, Pool, execute, query, refused
from storage.settings import PostgresSettings
from storage.statement import Statement
from storage.transactions import transact

_ROW_ERRORS: Final = (*DATA_ERRORS, WriteConflict)
"""What one row can do to its whole batch; everything else speaks of the server."""
_NEXT_ARRIVAL: Final = Statement.of("select nextval('arrival_flush') * 1024")
_BRIEF_LOCKS: Final = "set local lock_timeout = '20ms'"


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

    async def next_arrival(self) -> int:
        """See `Ledger.next_arrival`. One round trip."""
        rows = await query(
            self._write,
            _NEXT_ARRIVAL,
            {},
            # All other flushes wait for it, and it waits for no disk: a server that does not answer
            # it is found out by it, within a second.
            timeout_s=self._write_timeout_s / 4,
            idempotent=True,
        )
        return int(rows[0][0])

    async def record(self, flush: Flush) -> FlushResult:
        """See `Ledger.record`. Three round trips where no (board, user) stands in it twice."""
        result = FlushResult()
        await self._record_some(flush.arrival, flush.placed, result, split=False)
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
        self, arrival: int, placed: Sequence[Placed], result: FlushResult, *, split: bool
    ) -> None:
        """Records these in one transaction or, where a row is refused, in two halves one after
        the other, so that a bad row ends up alone (PROTOCOL P11).
        """
        try:
            rows = await self._transact(arrival, placed, patient=not split)
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
        await self._tell(rows, result)

    async def _tell(self, rows: Sequence[tuple[Placed, RecordRow]], result: FlushResult) -> None:
        """Adds what a committed transaction did; those it knew get their first outcome."""
        known = [item for item, row in rows if row.refusal == "known"]
        first: Mapping[str, StoredRow] | StandingsError = {}
        if known:
            try:
                first = await self._first_outcomes(known)
            except StandingsError as error:
                first = error
        for item, row in rows:
            if row.refusal != "known":
                result.results[item.place] = outcome_of(item, row)
            elif isinstance(first, StandingsError):
                result.results[item.place] = first
            else:
                stored = first[item.submission.submission_id]
                result.results[item.place] = duplicate_of(item, stored)
            if row.item is not None:
                result.changes.setdefault(row.xid, []).append(
                    IndexChange(row.season_no, shard_of(item.submission.user_id), row.item)
                )

    async def _transact(
        self, arrival: int, placed: Sequence[Placed], *, patient: bool
    ) -> Sequence[tuple[Placed, RecordRow]]:
        """Runs the transaction. The ids make a second run harmless also where the first one's
        end is unknown. It ends: a flush that never came back would hold up its users for ever.
        """
        waves = waves_of(placed)
        return await transact(
            self._write,
            lambda connection: self._run(connection, arrival, waves, patient=patient),
            timeout_s=self._write_timeout_s * len(waves),
        )

    async def _run(
        self,
        connection: Connection,
        arrival: int,
        waves: Sequence[Sequence[Placed]],
        *,
        patient: bool,
    ) -> Sequence[tuple[Placed, RecordRow]]:
        """Raises BoardChanged, and then nothing is recorded.

        In a transaction of its own also where one statement would do: a server that was silent
        may read a statement that was given up long ago. Nobody commits it then, and a commit that
        comes late still holds the locks that keep later submissions behind it.
        """
        done: list[tuple[Placed, RecordRow]] = []
        if not patient:
            # The full patience was spent once; each half waits a little only.
            await connection.execute(_BRIEF_LOCKS)
        for number, wave in enumerate(waves, start=1):
            done += await self._run_wave(
                connection, arrival, wave, earlier=done, last=number == len(waves)
            )
        return done

    async def _run_wave(
        self,
        connection: Connection,
        arrival: int,
        wave: Sequence[Placed],
        *,
        earlier: Sequence[tuple[Placed, RecordRow]],
        last: bool,
    ) -> list[tuple[Placed, RecordRow]]:
        changed = [(item, row) for item, row in earlier if row.item is not None]
        rows = await execute(
            connection,
            self._record,
            parameters_of(wave, arrival=arrival)
            | self._window
            | {
                "last_wave": last,
                "earlier_season_no": [row.season_no for _, row in changed],
                "earlier_user_id": [item.submission.user_id for item, _ in changed],
            },
        )
        records = [(wave[row[0] - 1], RecordRow._make(row)) for row in rows]
        if any(row.refusal == "board changed" for _, row in records):
            raise BoardChanged
        return records

    async def _first_outcomes(self, known: Sequence[Placed]) -> Mapping[str, StoredRow]:
        rows = await query(
            self._write,
            self._recorded,
            ids_of(known),
            timeout_s=self._write_timeout_s,
            idempotent=True,
        )
        return {row[0]: StoredRow._make(row) for row in rows}
