"""Builds seasons of the index from the ledger, while writes go on (PROTOCOL P6.5)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from core.errors import IndexUnavailable
from core.ports import IndexKeeping, LedgerHistory, LedgerPoint, LoadedChunk
from core.types import SHARD_COUNT

_CHUNK_SIZE: Final = 1_000
"""Entries a function call loads: about a millisecond of a Redis node's time."""
_SHARDS_AT_ONCE: Final = 3
"""In this process, whoever asks. PostgreSQL prepares the next chunks while Redis takes in these;
the healer and the health checks need the connections that are left."""


Loaded = Callable[[LoadedChunk], None]


@dataclass(frozen=True, slots=True)
class BuildIndex:
    """Copies a season from PostgreSQL beside the one in use, then swaps them.

    From the beginning of the copy on, every apply writes to it too, and the rows are read after
    that: nothing falls between. A failover in between shows as a copy that is not ours any more.
    """

    history: LedgerHistory
    keeping: IndexKeeping
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_SHARDS_AT_ONCE))

    async def season(self, season_number: int) -> None:
        """Builds one season on all 16 shards. Raises Unavailable."""
        await self.pairs([(season_number, shard) for shard in range(SHARD_COUNT)])

    async def pairs(
        self, pairs: Sequence[tuple[int, int]], *, loaded: Loaded | None = None
    ) -> None:
        """Builds some (season_number, shard). Raises Unavailable when one could not be built;
        the others are built all the same. `loaded` is given each chunk that was copied.
        """
        start = await self.history.point()
        built = await asyncio.gather(
            *(self._build_in_turn(pair, start, loaded or _silent) for pair in pairs),
            return_exceptions=True,
        )
        for outcome in built:
            if isinstance(outcome, BaseException):
                raise outcome
        if not all(built):
            raise IndexUnavailable

    async def _build_in_turn(
        self, pair: tuple[int, int], start: LedgerPoint, loaded: Loaded
    ) -> bool:
        async with self.turns:
            return await self._build(*pair, start, loaded)

    async def _build(
        self, season_number: int, shard: int, start: LedgerPoint, loaded: Loaded
    ) -> bool:
        token = uuid.uuid4().hex
        if not await self.keeping.begin(season_number, shard, token=token, start=start):
            return False
        chunks = 0
        after_user_id = 0
        while True:
            chunk = await self.history.load(
                season_number, shard, after_user_id=after_user_id, limit=_CHUNK_SIZE
            )
            if chunk.count:
                taken = await self.keeping.load(
                    season_number, shard, token=token, chunk=chunks, items=chunk.items
                )
                if not taken:
                    return False
                chunks += 1
                loaded(chunk)
                after_user_id = chunk.last_user_id
            if chunk.count < _CHUNK_SIZE:
                break
        return await self.keeping.swap(season_number, shard, token=token, chunks=chunks)


def _silent(_chunk: LoadedChunk) -> None:
    """Tells nobody."""
