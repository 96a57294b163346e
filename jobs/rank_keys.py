"""Fills in the rank keys that entries lack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from core.ports import Retention
from core.types import ALL_SHARDS

_CHUNK: Final = 1_000
"""Entries a transaction: what a submission of one of them may have to wait for, some 20 ms."""
_CHUNKS_MAX: Final = 100
"""Of a shard in one run; then the others have their turn."""


@dataclass(frozen=True, slots=True)
class FillRankKeys:
    """Makes the order in PostgreSQL whole, so that pages can be read by it."""

    retention: Retention

    async def __call__(self) -> None:
        """Raises LedgerUnavailable; the next run goes on where this one ended."""
        for shard in ALL_SHARDS:
            for _ in range(_CHUNKS_MAX):
                if not await self.retention.fill_rank_keys(shard, limit=_CHUNK):
                    break
