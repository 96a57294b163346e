"""Keeps the partitions of the submission ids ahead of the clock."""

from __future__ import annotations

from dataclasses import dataclass

from core.ports import Retention


@dataclass(frozen=True, slots=True)
class Partitions:
    """Makes the next days' partitions and drops those behind the window."""

    retention: Retention

    async def __call__(self) -> None:
        """Raises LedgerUnavailable."""
        await self.retention.make_partitions()
        await self.retention.drop_partitions()
