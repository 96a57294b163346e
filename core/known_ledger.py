"""Which ledger PostgreSQL is, as this process last saw it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from core.errors import StandingsError
from core.ports import LedgerHistory

_REFRESH_S: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class KnownLedger:
    """For tokens, which name the ledger that their transactions are of. b"": never seen.

    One that is named a second too late, after a promotion, costs its reader a question to the
    database, once the index is one of the new ledger.
    """

    history: LedgerHistory
    name: bytes = b""

    async def follow(self) -> None:
        """Looks each second, and keeps the last one while PostgreSQL is away; never returns."""
        while True:
            try:
                self.name = (await self.history.point()).ledger
            except StandingsError:
                pass
            except Exception:  # noqa: BLE001  # a bug in one look must not end the looking
                _log.exception("the ledger could not be looked at")
            await asyncio.sleep(_REFRESH_S)
