"""Who runs the jobs: whoever holds one advisory lock of PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import psycopg

from storage.connecting import LedgerConnection
from storage.pool import KEEPALIVES, Connection

_log = logging.getLogger(__name__)

_LOCK: Final = 0x4A6F6273
"""The advisory lock of the jobs ('Jobs')."""
_SERVER_KEEPALIVES: Final = " ".join(
    f"-c tcp_keepalives_{name}" for name in ("idle=5", "interval=2", "count=3")
)
_ASK_AGAIN_S: Final = 1.0
_CONFIRM_S: Final = 1.0
"""How long a process may believe that it leads after its session is gone. Jobs are harmless to
run twice for so long."""


class PostgresLeadership:
    """The `Leadership` port on a session lock; `dsn` must not lead through a pooler."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """See `Leadership.lead`."""
        while True:
            try:
                await self._lead_once(work)
            except psycopg.Error as error:
                _log.warning("the jobs have no database", extra={"sqlstate": error.sqlstate})
            await asyncio.sleep(_ASK_AGAIN_S)

    async def _lead_once(self, work: Callable[[], Awaitable[None]]) -> None:
        connection = await LedgerConnection.connect(
            self._dsn,
            autocommit=True,
            connect_timeout=3,
            application_name="standings-leader",
            # The server must notice, too: it holds the lock for a machine that has vanished.
            options=_SERVER_KEEPALIVES,
            **KEEPALIVES,
        )
        async with connection:
            while not await _try_lock(connection):  # noqa: ASYNC110  # the lock tells nobody
                await asyncio.sleep(_ASK_AGAIN_S)
            task = asyncio.ensure_future(work())
            try:
                while not (await asyncio.wait({task}, timeout=_CONFIRM_S))[0]:
                    await connection.execute("select 1")
                await task
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def _try_lock(connection: Connection) -> bool:
    cursor = await connection.execute("select pg_try_advisory_lock(%s)", (_LOCK,))
    row = await cursor.fetchone()
    return row is not None and bool(row[0])
