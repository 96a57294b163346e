"""Verifying and rebuilding the index of boards, as operations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from core.build_index import BuildIndex
from core.errors import IndexUnavailable, IndexUnbuilt
from core.operations import Operation, OperationKind, Operations, OperationShard, Progress
from core.ordering import live_count
from core.ports import Boards, LoadedChunk
from core.types import ALL_SHARDS, Board
from core.verify_index import PairCheck, VerifyIndex

_BOARDS_A_PAGE: Final = 500
_USERS_MAX: Final = 100
_TRIES: Final = 3
_PAUSE_S: Final = 1.0
"""Between tries, where the builder's job was at the same copy, or a shard was away for a moment."""


@dataclass(frozen=True, slots=True)
class IndexOperations:
    """Answers VerifyShards, RebuildShards and what can be asked of operations."""

    operations: Operations
    boards: Boards
    verify_pair: VerifyIndex
    build: BuildIndex

    async def verify(self, board_id: str, shards: Sequence[int], *, repair: bool) -> Operation:
        """Begins to hold a board's index, or that of all boards, against the ledger. Raises
        BoardNotFound, LedgerUnavailable.
        """
        boards = await self._boards(board_id)

        async def work(progress: Progress) -> None:
            async for board, shard in self._pairs(boards, shards, progress):
                found = await self._verify(board, shard, progress, repair=repair)
                await progress.step(shards=found, done=1)

        return await self.operations.begin(OperationKind.VERIFY, work)

    async def rebuild(self, board_id: str, shards: Sequence[int]) -> Operation:
        """Begins to build a board's index anew, or that of all boards. Raises BoardNotFound,
        LedgerUnavailable.
        """
        boards = await self._boards(board_id)

        async def work(progress: Progress) -> None:
            async for board, shard in self._pairs(boards, shards, progress):
                count = await self._rebuild(board, shard)
                built = OperationShard(
                    board_id=board.spec.board_id,
                    season_id=board.season.season_id,
                    shard=shard,
                    database_entry_count=count,
                    index_entry_count=count,
                    rebuilt=True,
                )
                await progress.step(count, shards=[built], done=1)

        return await self.operations.begin(OperationKind.REBUILD, work)

    async def _pairs(
        self, boards: Sequence[Board], shards: Sequence[int], progress: Progress
    ) -> AsyncIterator[tuple[Board, int]]:
        wanted = sorted(set(shards)) or ALL_SHARDS
        await progress.total(len(boards) * len(wanted))
        for board in boards:
            for shard in wanted:
                yield board, shard

    async def _boards(self, board_id: str) -> Sequence[Board]:
        if board_id:
            return [await self.boards.get(board_id)]
        found: list[Board] = []
        while True:
            after = found[-1].spec.board_id if found else ""
            page = await self.boards.list(after=after, limit=_BOARDS_A_PAGE)
            found += page
            if len(page) < _BOARDS_A_PAGE:
                return found

    async def _verify(
        self, board: Board, shard: int, progress: Progress, *, repair: bool
    ) -> Sequence[OperationShard]:
        """What is to be told of a shard; nothing where both sides are equal."""
        check = await self._check(board, shard, progress)
        if check.equal:
            return []
        if repair:
            await self._rebuild(board, shard)
        found = OperationShard(
            board_id=board.spec.board_id,
            season_id=board.season.season_id,
            shard=shard,
            database_entry_count=check.database_count,
            index_entry_count=check.index_count,
            difference_count=check.difference_count,
            user_ids=tuple(check.user_ids[:_USERS_MAX]),
            rebuilt=repair,
        )
        return [found]

    async def _check(self, board: Board, shard: int, progress: Progress) -> PairCheck:
        season_number = board.season.number
        for tries_left in reversed(range(_TRIES)):
            try:
                return await self.verify_pair(season_number, shard, progress.step)
            except IndexUnbuilt:
                if not tries_left:
                    break
            except IndexUnavailable:
                if not tries_left:
                    raise
            await asyncio.sleep(_PAUSE_S)
        return await self.verify_pair.unbuilt(season_number, shard, progress.step)

    async def _rebuild(self, board: Board, shard: int) -> int:
        """Builds a shard of a season; how many entries it has."""
        count = 0

        def loaded(chunk: LoadedChunk) -> None:
            nonlocal count
            count += live_count(chunk.items)

        for tries_left in reversed(range(_TRIES)):
            count = 0
            try:
                await self.build.pairs([(board.season.number, shard)], loaded=loaded)
                break
            except IndexUnavailable:
                if not tries_left:
                    raise
            await asyncio.sleep(_PAUSE_S)
        return count
