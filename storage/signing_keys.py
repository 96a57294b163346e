"""The secrets that sign tokens where the settings give none."""

from __future__ import annotations

from typing import Final

from storage.pool import Pool, query
from storage.statement import Statement

_NEWEST: Final = Statement.of("select secret from signing_keys order by key_no desc limit 2")
_TIMEOUT_S: Final = 10.0
"""Asked once, at the start of a process."""


async def signing_keys(pool: Pool) -> list[bytes]:
    """The two newest secrets, the newest first. Raises LedgerUnavailable."""
    rows = await query(pool, _NEWEST, {}, timeout_s=_TIMEOUT_S)
    return [row[0] for row in rows]
