"""A ledger on a database of its own."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import psycopg
import pytest
from pydantic import SecretStr

from core.errors import StandingsError
from core.flushes import Flush, FlushResult, Placed
from core.removal_ports import EntryDeletion, RemovedEntry
from core.types import Board, BoardSpec, Recorded, Submission
from storage.boards import PostgresBoards
from storage.history import PostgresHistory
from storage.ledger import PostgresLedger
from storage.pool import Pool, open_pool
from storage.removal import PostgresRemoval
from storage.retention import PostgresRetention
from storage.sessions import PoolUse
from storage.settings import PostgresSettings
from storage.unfinished_removals import PostgresUnfinishedRemovals
from tests.fakes.making import submission_id
from tests.fixtures.pgbouncer import pooling


@dataclass
class Store:
    """The adapters of one database, and what tests ask of them again and again."""

    dsn: str
    settings: PostgresSettings
    pool: Pool
    ledger: PostgresLedger
    boards: PostgresBoards
    history: PostgresHistory
    retention: PostgresRetention
    removal: PostgresRemoval
    unfinished: PostgresUnfinishedRemovals

    @property
    def pool_dsn(self) -> str:
        """What the pools were opened with; `dsn` leads to the database itself."""
        assert self.settings.dsn is not None
        return self.settings.dsn.get_secret_value()

    async def create(self, spec: BoardSpec) -> Board:
        """A stored board."""
        return await self.boards.create(spec)

    async def flush(self, board: Board, *submissions: Submission) -> FlushResult:
        """Records submissions in one flush, in order."""
        placed = [Placed(item, board, place) for place, item in enumerate(submissions)]
        return await self.ledger.record(Flush(None, placed))

    async def record(
        self, board: Board, *submissions: Submission
    ) -> Sequence[Recorded | StandingsError]:
        """As flush, for the results alone."""
        results = (await self.flush(board, *submissions)).results
        return [results[place] for place in range(len(submissions))]

    async def record_one(self, board: Board, submission: Submission) -> Recorded:
        """As record, for one that is taken."""
        (result,) = await self.record(board, submission)
        assert isinstance(result, Recorded), result
        return result

    async def delete_entry(
        self, board: Board, user_id: int, id_: str = "", *, digest: bytes = b"delete"
    ) -> RemovedEntry:
        """Deletes an entry of the board's season."""
        return await self.removal.delete_entry(
            EntryDeletion(id_ or submission_id(), board.season, user_id, digest)
        )

    async def execute(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """The rows of a statement of the test's own."""
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []


@pytest.fixture
def postgres_settings(database: str) -> PostgresSettings:
    """Settings with time enough for a busy machine."""
    return PostgresSettings(
        dsn=SecretStr(database),
        write_timeout_ms=10_000,
        read_timeout_ms=10_000,
        lock_timeout_ms=10_000,
    )


@pytest.fixture
def way(request: pytest.FixtureRequest) -> str:
    """How the pools reach PostgreSQL: `direct`, or through `pgbouncer`."""
    return getattr(request, "param", "direct")


@pytest.fixture
async def store(
    database: str, postgres_settings: PostgresSettings, way: str
) -> AsyncIterator[Store]:
    """Every adapter on a fresh database."""
    async with AsyncExitStack() as stack:
        settings, dsn = postgres_settings, database
        if way == "pgbouncer":
            pooler = await stack.enter_async_context(pooling(settings, database))
            settings, dsn = pooler.settings(settings), pooler.dsn
        write = await stack.enter_async_context(open_pool(settings, dsn, PoolUse.WRITE))
        read = await stack.enter_async_context(open_pool(settings, dsn, PoolUse.READ))
        jobs = await stack.enter_async_context(open_pool(settings, dsn, PoolUse.JOBS))
        await jobs.wait(10)
        await write.wait(10)
        await read.wait(10)
        yield Store(
            dsn=database,
            settings=settings,
            pool=jobs,
            ledger=PostgresLedger(settings, write=write, read=read),
            boards=PostgresBoards(settings, write=write, read=read),
            history=PostgresHistory(jobs),
            retention=PostgresRetention(settings, jobs),
            removal=PostgresRemoval(settings, write=write, jobs=jobs),
            unfinished=PostgresUnfinishedRemovals(settings, jobs),
        )
