"""One transaction from begin to commit, run again where that is harmless."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from psycopg import errors as pg

from core.errors import LedgerUnavailable, WriteConflict
from storage.pool import Connection, Pool

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
    """Runs `work` in a transaction, as `until_no_twin` does."""

    async def run(connection: Connection) -> _T:
        async with connection.transaction():
            return await work(connection)

    return await until_no_twin(pool, run, timeout_s=timeout_s)


async def until_no_twin(
    pool: Pool,
    run: Callable[[Connection], Coroutine[Any, Any, _T]],
    *,
    timeout_s: float,
    checkout_s: float | None = None,
) -> _T:
    """Runs a transaction; again after a committed twin and, once, on a new connection.

    It must be harmless to run it again also where its first end is unknown. Whatever the
    network does, it ends: `timeout_s` is for its statements, `checkout_s` as in `Pool.run`. Raises
    LedgerUnavailable, WriteConflict, and what the database says of the data itself.
    """
    for _ in range(_RUNS_MAX):
        try:
            return await pool.run(
                run, timeout_s=timeout_s + PATIENCE_S, idempotent=True, checkout_s=checkout_s
            )
        except pg.UniqueViolation:
            continue
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
