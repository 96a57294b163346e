"""Connection pools, and the one place where psycopg's errors become ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from core.errors import LedgerUnavailable, QueueFull, WriteConflict
from storage.settings import PostgresSettings

Row: TypeAlias = tuple[Any, ...]
Connection: TypeAlias = psycopg.AsyncConnection[Row]
Pool: TypeAlias = AsyncConnectionPool[Connection]

_WAITING_PER_CONNECTION: Final = 16
"""Callers that may wait for each connection before more are refused."""


def sql(name: str) -> bytes:
    """The text of storage/sql/<name>.sql."""
    return files("storage").joinpath("sql", f"{name}.sql").read_bytes()


@asynccontextmanager
async def open_pool(settings: PostgresSettings, dsn: str, *, writes: bool) -> AsyncIterator[Pool]:
    """A pool of autocommit connections that opens in the background and closes on leaving.

    Generic plans: the statements are few and always the same, and planning the ledger's costs
    more than running it.
    """
    timeout_ms = settings.write_timeout_ms if writes else settings.read_timeout_ms
    size = settings.write_pool_size if writes else settings.read_pool_size
    pool: Pool = AsyncConnectionPool(
        dsn,
        kwargs={
            "autocommit": True,
            "prepare_threshold": 1,
            "connect_timeout": settings.connect_timeout_s,
            "application_name": "standings-write" if writes else "standings-read",
            "tcp_user_timeout": 2000,
            "options": (
                f"-c statement_timeout={timeout_ms} -c lock_timeout={settings.lock_timeout_ms} "
                "-c idle_in_transaction_session_timeout=2000 "
                "-c plan_cache_mode=force_generic_plan -c timezone=UTC"
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


@contextmanager
def translated() -> Iterator[None]:
    """Turns what a store can suffer into LedgerUnavailable, QueueFull or WriteConflict.

    Errors that speak of the data itself pass through: only the statement's owner can read them.
    """
    try:
        yield
    except (pg.LockNotAvailable, pg.DeadlockDetected, pg.SerializationFailure) as error:
        raise WriteConflict from error
    except TooManyRequests as error:
        raise QueueFull from error
    except (PoolTimeout, psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
        raise LedgerUnavailable from error


async def query(
    pool: Pool, statement: bytes | str, parameters: dict[str, object], *, timeout_s: float
) -> list[Row]:
    """All rows of one statement. Raises LedgerUnavailable, also when `timeout_s` passes.

    The statement runs in a task of its own: cancelling a query on a frozen server takes psycopg
    ten seconds, and the caller must not wait for that (RELIABILITY M13).
    """
    task = asyncio.create_task(_query(pool, statement, parameters))
    task.add_done_callback(_retrieve)
    with translated():
        try:
            done, _ = await asyncio.wait({task}, timeout=timeout_s)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.cancel()
            raise TimeoutError
        return task.result()


async def _query(pool: Pool, statement: bytes | str, parameters: dict[str, object]) -> list[Row]:
    async with pool.connection() as connection:
        cursor = await connection.execute(statement, parameters, binary=True)
        return await cursor.fetchall() if cursor.description else []


def connection_lost(error: LedgerUnavailable) -> bool:
    """Whether the server went away under the statement, rather than refuse or delay it."""
    cause = error.__cause__
    return isinstance(cause, psycopg.OperationalError) and (
        cause.sqlstate is None or cause.sqlstate.startswith(("08", "57P"))
    )


def _retrieve(task: asyncio.Task[list[Row]]) -> None:
    """Looks at the outcome of an abandoned task, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()
