"""The secrets that sign tokens where the settings give none."""

from __future__ import annotations

from typing import Final

from resilience.deadline import within
from storage.pool import Pool, Row, execute, translated
from storage.statement import Statement

_NEWEST: Final = Statement.of("select secret from signing_keys order by key_no desc limit 2")
_TIMEOUT_S: Final = 10.0
"""Asked once, at the start of a process."""


async def signing_keys(pool: Pool) -> list[bytes]:
    """The two newest secrets, the newest first. Raises LedgerUnavailable.

    Past the guard: a worker has to start also while an operator holds its breaker open.
    """
    with translated():
        rows = await within(_TIMEOUT_S, _newest(pool))
    return [row[0] for row in rows]


async def _newest(pool: Pool) -> list[Row]:
    async with pool.connection() as connection:
        return await execute(connection, _NEWEST, {})
