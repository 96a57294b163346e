"""One transaction from begin to commit, run again where that is harmless."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from psycopg import errors as pg

from core.errors import LedgerUnavailable, WriteConflict
from resilience.deadline import within
from storage.pool import Connection, Pool, connection_lost, translated

PATIENCE_S: Final = 1.0
"""What a transaction may take beyond its statements: a connection, and two round trips."""
_RUNS_MAX: Final = 10
"""A twin that raised 23505 has committed, so the next run finds it: more runs mean trouble."""
_TRIES_MAX: Final = 3
"""A user's entries are locked in no set order, so a flush of the same user may be in the way."""

_T = TypeVar("_T")


async def transact(
    pool: Pool, work: Callable[[Connection], Awaitable[_T]], *, timeout_s: float
) -> _T:
    """Runs `work` in a transaction; again after a committed twin and, once, on a new connection.

    `work` must be harmless to run again also where its first end is unknown. Whatever the
    network does, it ends: `timeout_s` is for its statements. Raises LedgerUnavailable,
    WriteConflict, and what the database says of the data itself.
    """
    reconnected = False
    for _ in range(_RUNS_MAX):
        try:
            with translated():
                return await within(timeout_s + PATIENCE_S, _run(pool, work))
        except pg.UniqueViolation:
            continue
        except LedgerUnavailable as error:
            if reconnected or not connection_lost(error):
                raise
            reconnected = True
            # After a restart of the server every idle connection is as dead as this one.
            with translated():
                await within(PATIENCE_S, pool.check())
    raise LedgerUnavailable


async def transact_patiently(
    pool: Pool, work: Callable[[Connection], Awaitable[_T]], *, timeout_s: float
) -> _T:
    """As `transact`; up to twice more where a lock was in the way."""
    for _ in range(_TRIES_MAX - 1):
        try:
            return await transact(pool, work, timeout_s=timeout_s)
        except WriteConflict:
            continue
    return await transact(pool, work, timeout_s=timeout_s)


async def _run(pool: Pool, work: Callable[[Connection], Awaitable[_T]]) -> _T:
    async with pool.connection() as connection, connection.transaction():
        return await work(connection)
