"""Connection pools, and the one place where psycopg's errors become ours."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from enum import Enum
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from core.errors import InvalidInput, LedgerUnavailable, QueueFull, StandingsError, WriteConflict
from resilience.deadline import within
from storage.settings import PostgresSettings
from storage.statement import Statement

Row: TypeAlias = tuple[Any, ...]
Connection: TypeAlias = psycopg.AsyncConnection[Row]
Pool: TypeAlias = AsyncConnectionPool[Connection]

_log = logging.getLogger(__name__)

DATA_ERRORS: Final = (pg.DataError, pg.IntegrityError)
"""What the database says of the data itself."""
_WAITING_PER_CONNECTION: Final = 16
"""Callers that may wait for each connection before more are refused."""


KEEPALIVES: Final[dict[str, Any]] = {
    "tcp_user_timeout": 2000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
"""A connection whose other end has vanished is given up within seconds, not hours."""


class PoolUse(Enum):
    """What a pool is for; each use has connections of its own, so that none starves another."""

    WRITE = "write"
    READ = "read"
    JOBS = "jobs"


@asynccontextmanager
async def open_pool(settings: PostgresSettings, dsn: str, use: PoolUse) -> AsyncIterator[Pool]:
    """A pool of autocommit connections that opens in the background and closes on leaving."""
    size, timeout_ms, planner = _profile(settings, use)
    pool: Pool = AsyncConnectionPool(
        dsn,
        kwargs={
            "autocommit": True,
            "prepare_threshold": 1,
            "connect_timeout": settings.connect_timeout_s,
            "application_name": f"standings-{use.value}",
            **KEEPALIVES,
            "options": (
                f"-c statement_timeout={timeout_ms} -c lock_timeout={settings.lock_timeout_ms} "
                # Compiling costs more than any of our statements takes.
                f"-c jit=off -c idle_in_transaction_session_timeout=2000 -c timezone=UTC {planner}"
            ),
        },
        min_size=min(2, size),
        max_size=size,
        max_waiting=size * _WAITING_PER_CONNECTION,
        timeout=settings.pool_timeout_s,
        reconnect_timeout=10,
        open=False,
    )
    await pool.open(wait=False)
    try:
        yield pool
    finally:
        await pool.close(timeout=2)


def _profile(settings: PostgresSettings, use: PoolUse) -> tuple[int, int, str]:
    """Size, statement timeout in ms, and planner settings of a pool."""
    match use:
        case PoolUse.WRITE:
            # The ledger's statement is always the same, and planning it costs as much as running
            # it. A generic plan takes its arrays for ten rows and would join 500 with 500 by
            # nested loops: three quarters of its time. It may also have been made while a table
            # was small, and would read the whole of it for each row once it is not.
            planner = (
                "-c plan_cache_mode=force_generic_plan -c enable_nestloop=off -c enable_seqscan=off"
            )
            return settings.write_pool_size, settings.write_timeout_ms, planner
        case PoolUse.READ:
            planner = "-c plan_cache_mode=force_generic_plan"
            return settings.read_pool_size, settings.read_timeout_ms, planner
        case PoolUse.JOBS:
            return settings.jobs_pool_size, settings.jobs_timeout_ms, ""


@contextmanager
def translated() -> Iterator[None]:
    """Turns what a store can suffer into LedgerUnavailable, QueueFull or WriteConflict.

    DATA_ERRORS pass through: only the statement's owner can read them.
    """
    try:
        yield
    except (pg.LockNotAvailable, pg.DeadlockDetected, pg.SerializationFailure) as error:
        raise WriteConflict from error
    except TooManyRequests as error:
        raise QueueFull from error
    except (PoolTimeout, psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
        raise LedgerUnavailable from error
    except psycopg.InternalError as error:
        # Among them a server that has become a read-only standby.
        raise LedgerUnavailable from error


def refused(error: psycopg.DataError | psycopg.IntegrityError) -> StandingsError:
    """What a caller is told whose row the database refused all by itself."""
    # Never the text, which quotes the row.
    _log.error("a submission was refused by the database", extra={"sqlstate": error.sqlstate})
    if isinstance(error, psycopg.DataError):
        return InvalidInput("submission", "its values cannot be stored")
    return LedgerUnavailable()


async def query(
    pool: Pool, statement: Statement, parameters: Mapping[str, Any], *, timeout_s: float
) -> list[Row]:
    """All rows of one statement. Raises LedgerUnavailable, also when `timeout_s` passes."""
    with translated():
        return await within(timeout_s, _query(pool, statement, parameters))


async def execute(
    connection: Connection, statement: Statement, parameters: Mapping[str, Any]
) -> list[Row]:
    """All rows of one statement on a connection of the caller's."""
    cursor = psycopg.AsyncRawCursor(connection)
    await cursor.execute(statement.text, statement.arguments(parameters), binary=True)
    return await cursor.fetchall() if cursor.description else []


async def _query(pool: Pool, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
    async with pool.connection() as connection:
        return await execute(connection, statement, parameters)


def connection_lost(error: LedgerUnavailable) -> bool:
    """Whether the server went away under the statement, rather than refuse or delay it."""
    cause = error.__cause__
    return isinstance(cause, psycopg.OperationalError) and (
        cause.sqlstate is None or cause.sqlstate.startswith(("08", "57P"))
    )
