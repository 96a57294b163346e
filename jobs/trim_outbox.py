"""Forgets transactions that every shard has long had."""

from __future__ import annotations

from dataclasses import dataclass

from core.ports import Retention


@dataclass(frozen=True, slots=True)
class TrimOutbox:
    """Deletes outbox rows older than a day."""

    retention: Retention

    async def __call__(self) -> None:
        """Raises LedgerUnavailable."""
        await self.retention.trim_outbox()
