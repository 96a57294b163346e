"""Connection pools, and the one place where psycopg's errors become ours."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from core.errors import InvalidInput, LedgerUnavailable, QueueFull, StandingsError, WriteConflict
from resilience.breaker import Outcome
from resilience.breakers import Breakers
from resilience.bulkhead import Bulkhead
from resilience.deadline import finishing, within
from resilience.errors import CircuitOpen, Refused
from resilience.guard import Guard
from storage.connecting import LedgerConnection
from storage.guarding import POSTGRES_BREAKERS, judge
from storage.sessions import PoolUse, session_arguments
from storage.settings import PostgresSettings
from storage.statement import Statement

Row: TypeAlias = tuple[Any, ...]
Connection: TypeAlias = psycopg.AsyncConnection[Row]
ResultT = TypeVar("ResultT")

_log = logging.getLogger(__name__)

DATA_ERRORS: Final = (pg.DataError, pg.IntegrityError)
"""What the database says of the data itself."""
_WAITING_PER_CONNECTION: Final = 16
"""Callers that may wait for each connection before more are refused."""


_PROBE: Final = Statement.of("select from boards limit 1")
_PROBE_WRITES: Final = Statement.of("select nextval('arrival_flush')")
"""Numbers may be left out. Neither a standby nor a full disk gives one."""
_PROBE_TIMEOUT_S: Final = 0.5
_READ_GRACE_S: Final = 0.25
"""For a read that is under way when its caller goes: to cancel it takes a connection of its own
and a process of the server.
"""

KEEPALIVES: Final[dict[str, Any]] = {
    "tcp_user_timeout": 2000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
"""A connection whose other end has vanished is given up within seconds, not hours."""


class Pool:
    """Connections, and what every call goes through to get one."""

    def __init__(
        self,
        connections: AsyncConnectionPool[Connection],
        guard: Guard,
        *,
        probe: Statement,
        grace_s: float = 0.0,
    ) -> None:
        self._connections = connections
        self._guard = guard
        self._probe = probe
        self._grace_s = grace_s

    @property
    def waiting_count(self) -> int:
        """Callers that wait for a connection."""
        return self._connections.get_stats().get("requests_waiting", 0)

    def require(self) -> None:
        """Raises LedgerUnavailable while no call would be let through."""
        try:
            self._guard.require()
        except CircuitOpen:
            # In here, because it is asked for each call, and nearly never raises.
            with translated():
                raise

    def patience_s(self, timeout_s: float) -> float:
        """A time limit, and by how much it has to be longer because we are late ourselves."""
        return self._guard.patience_s(timeout_s)

    async def run(
        self,
        work: Callable[[Connection], Coroutine[Any, Any, ResultT]],
        *,
        timeout_s: float,
        idempotent: bool,
        checkout_s: float | None = None,
    ) -> ResultT:
        """What some work on a connection gives, within `timeout_s` and the caller's deadline; a
        second time where the connection was lost and it is `idempotent`. `checkout_s`: how long it
        may take to get a connection; None: as the pool has it.

        Raises LedgerUnavailable, QueueFull, WriteConflict, and what the database says of the data.
        """

        async def run() -> ResultT:
            try:
                async with self.connection(checkout_s) as connection:
                    if not self._grace_s:
                        return await work(connection)
                    return await finishing(self._grace_s, work(connection))
            except PoolTimeout as error:
                # The server holds on to all of them.
                raise TimeoutError from error

        with translated():
            return await self._guard.call(run, timeout_s=timeout_s, idempotent=idempotent)

    @asynccontextmanager
    async def connection(self, timeout_s: float | None = None) -> AsyncIterator[Connection]:
        """A connection that works as far as can be known without a round trip, past the guard.

        The pool's own check asks the server each time, and pauses for a second after the first
        dead connection; after a restart all of them are.
        """
        while True:
            async with self._connections.connection(timeout_s) as connection:
                if _is_up(connection):
                    yield connection
                    return

    async def probe(self) -> Outcome:
        """What a statement of no consequence says of the server, past the guard."""

        async def look() -> None:
            async with self.connection() as connection:
                await execute(connection, self._probe, {})

        try:
            await within(_PROBE_TIMEOUT_S, look())
        except TimeoutError:
            return Outcome.LOST
        except Exception as error:  # noqa: BLE001 - the judge looks at whatever it is
            return judge(error)
        return Outcome.OK

    async def wait(self, timeout_s: float) -> None:
        """Returns when the first connections are made. Raises PoolTimeout."""
        await self._connections.wait(timeout_s)


def _is_up(connection: Connection) -> bool:
    """Whether the server has not hung up; costs two system calls, not a round trip."""
    try:
        # What a server says when it goes is read first, and that it went then.
        connection.pgconn.consume_input()
        connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return not connection.closed


@asynccontextmanager
async def open_pool(
    settings: PostgresSettings,
    dsn: str,
    use: PoolUse,
    breakers: Breakers | None = None,
    *,
    breaker: str = "",
) -> AsyncIterator[Pool]:
    """A pool of autocommit connections that opens in the background and closes on leaving.
    Without `breakers` it has one of its own. `breaker` names another one than that of its use.
    """
    if breakers is None:
        breakers = Breakers(POSTGRES_BREAKERS, rng=random.Random())  # noqa: S311  # jitter only
    size = _size(settings, use)
    pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
        dsn,
        connection_class=LedgerConnection,
        kwargs={
            "autocommit": True,
            "prepare_threshold": 1,
            "connect_timeout": settings.connect_timeout_s,
            "application_name": f"standings-{use.value}",
            **KEEPALIVES,
            **session_arguments(settings, dsn, use),
        },
        min_size=min(2, size),
        max_size=size,
        max_waiting=size * _WAITING_PER_CONNECTION,
        timeout=settings.pool_timeout_s,
        reconnect_timeout=10,
        open=False,
    )
    await pool.open(wait=False)
    # A commit that was begun is not taken back when its caller goes: it will be asked for again.
    guard = Guard(
        breakers,
        breaker or f"postgres/{use.value}",
        judge=judge,
        bulkhead=Bulkhead(size, size * _WAITING_PER_CONNECTION),
        shielded=use is PoolUse.WRITE,
    )
    try:
        yield Pool(
            pool,
            guard,
            probe=_PROBE_WRITES if use is PoolUse.WRITE else _PROBE,
            grace_s=_READ_GRACE_S if use is PoolUse.READ else 0.0,
        )
    finally:
        await pool.close(timeout=2)


def _size(settings: PostgresSettings, use: PoolUse) -> int:
    """Connections of a pool, at most."""
    match use:
        case PoolUse.WRITE:
            return settings.write_pool_size
        case PoolUse.READ:
            return settings.read_pool_size
        case PoolUse.JOBS:
            return settings.jobs_pool_size


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
    except CircuitOpen as error:
        raise LedgerUnavailable(retry_after_ms=max(1, int(error.retry_after_s * 1000))) from error
    except (Refused, psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
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
    pool: Pool,
    statement: Statement,
    parameters: Mapping[str, Any],
    *,
    timeout_s: float,
    idempotent: bool = False,
) -> list[Row]:
    """All rows of one statement. Raises LedgerUnavailable, also when `timeout_s` passes."""
    return await pool.run(
        lambda connection: execute(connection, statement, parameters),
        timeout_s=timeout_s,
        idempotent=idempotent,
    )


async def execute(
    connection: Connection, statement: Statement, parameters: Mapping[str, Any]
) -> list[Row]:
    """All rows of one statement on a connection of the caller's."""
    cursor = psycopg.AsyncRawCursor(connection)
    await cursor.execute(statement.text, statement.arguments(parameters), binary=True)
    return await cursor.fetchall() if cursor.description else []
