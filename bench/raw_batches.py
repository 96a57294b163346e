"""The ledger's statement without a product around it: 500 submissions a transaction, one after the
other on one connection with the product's own options.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from bench.driving import Groups, generated_here, watched
from bench.errors import BenchFailed
from bench.requests import BATCH_SIZE, SCORE_MAX
from bench.samples import Sample, sample_of_times
from chaos.boards import fill_past_server
from core.clock import SystemClock
from core.flushes import Placed
from core.submission_ids import SubmissionIds
from core.types import Board, BoardSpec, Operator, SortOrder, Submission
from storage.batch import parameters_of, window_of
from storage.boards import PostgresBoards
from storage.pool import execute, open_pool
from storage.sessions import PoolUse
from storage.settings import PostgresSettings
from storage.statement import Statement

_BATCHES_PER_S: Final = 120
"""More than anybody expects."""
_CONNECT_S: Final = 10.0
_SPEC: Final = BoardSpec(
    board_id="raw",
    title="",
    sort_order=SortOrder.DESCENDING,
    subscore_sort_order=SortOrder.DESCENDING,
    operator=Operator.SET,
    min_score=None,
    max_score=None,
    client_writes=False,
    metadata=None,
)


async def prepare(dsn: str, entry_count: int) -> Board:
    """A board in a migrated database that nobody serves, with entries of users 1 to so many."""
    settings = PostgresSettings(dsn=SecretStr(dsn))
    async with open_pool(settings, dsn, PoolUse.WRITE) as pool:
        await pool.wait(_CONNECT_S)
        board = await PostgresBoards(settings, write=pool, read=pool).create(_SPEC)
    await fill_past_server(dsn, _SPEC.board_id, entry_count)
    return board


@dataclass(slots=True)
class RawBatches:
    """The same statement, again and again. A call of its samples is a batch of 500 scores."""

    dsn: str
    board: Board
    entry_count: int
    groups: Groups
    _arrival: int = 2**40
    """Above those of the entries that were there."""

    async def __call__(self, seconds: float) -> Sample:
        """One run. Raises BenchFailed."""
        batches = [self._batch() for _ in range(max(1, round(_BATCHES_PER_S * seconds)))]
        return await watched(self.groups, lambda: generated_here(self._run(batches, seconds)))

    async def _run(self, batches: Sequence[Mapping[str, Any]], seconds: float) -> Sample:
        settings = PostgresSettings(dsn=SecretStr(self.dsn))
        statement = Statement.load("record")
        times_ms: list[float] = []
        async with open_pool(settings, self.dsn, PoolUse.WRITE) as pool:
            await pool.wait(_CONNECT_S)
            async with pool.connection() as connection:
                started_s = last_s = time.monotonic()
                for batch in batches:
                    async with connection.transaction():
                        rows = await execute(connection, statement, batch)
                    if any(row[1] is not None for row in rows):
                        raise BenchFailed(f"PostgreSQL refused a submission: {rows[0][1]}")
                    now_s = time.monotonic()
                    times_ms.append(1000 * (now_s - last_s))
                    last_s = now_s
                    if now_s - started_s > seconds:
                        break
        return sample_of_times(times_ms, last_s - started_s)

    def _batch(self) -> Mapping[str, Any]:
        rng = random.Random(self._arrival)  # noqa: S311 - no secret
        new_id = SubmissionIds(SystemClock())
        users = rng.sample(range(1, self.entry_count + 1), min(BATCH_SIZE, self.entry_count))
        placed = [
            Placed(
                Submission(
                    submission_id=new_id(),
                    board_id=self.board.spec.board_id,
                    user_id=user,
                    score=rng.randrange(SCORE_MAX),
                    subscore=0,
                    operator=None,
                    metadata=None,
                    digest=rng.randbytes(32),
                ),
                self.board,
                place,
            )
            for place, user in enumerate(users)
        ]
        self._arrival += 1024
        defaults = PostgresSettings()
        window = window_of(past=defaults.submission_window, future=defaults.submission_ahead)
        return {
            **parameters_of(placed),
            **window,
            "arrival": self._arrival,
            "last_wave": True,
            "earlier_season_no": [],
            "earlier_user_id": [],
        }
