"""The ledger, as a process last saw it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from core import known_ledger
from core.errors import LedgerUnavailable
from core.known_ledger import KnownLedger
from core.ports import LedgerPoint


@dataclass
class _History:
    """What is told at each look, one after the other."""

    told: list[LedgerPoint | Exception]
    empty: asyncio.Event = field(default_factory=asyncio.Event)

    async def point(self) -> LedgerPoint:
        """The next one."""
        if not self.told:
            self.empty.set()
            await asyncio.Event().wait()
        point = self.told.pop(0)
        if isinstance(point, Exception):
            raise point
        return point


@pytest.mark.parametrize("trouble", [LedgerUnavailable(), ValueError("a bug")])
async def test_the_last_ledger_stays_while_there_is_none_to_ask(
    monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """And a new one is learned when there is."""
    monkeypatch.setattr(known_ledger, "_REFRESH_S", 0)
    for told, name in (
        ([trouble], b""),
        ([LedgerPoint(1, b"first"), trouble], b"first"),
        ([LedgerPoint(1, b"first"), trouble, LedgerPoint(1, b"second")], b"second"),
    ):
        history = _History(told)
        ledger = KnownLedger(history)  # type: ignore[arg-type]
        following = asyncio.create_task(ledger.follow())
        await history.empty.wait()
        assert ledger.name == name
        following.cancel()
