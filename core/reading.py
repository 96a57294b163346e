"""What every read of a board begins with, and how ranks are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from core.board_directory import BoardDirectory
from core.errors import (
    ConsistencyTokenInvalid,
    IndexUnbuilt,
    ReadBehind,
    SeasonNotFound,
)
from core.ordering import KEY_BYTES, RESULT_BYTES, Ordering
from core.ports import Clock, Freshness, Index, IndexedEntry, IndexView, Ledger
from core.tokens import TokenSigner
from core.types import (
    SHARD_COUNT,
    Board,
    EntryView,
    Exactness,
    RankMode,
    ReadMeta,
    ReadOptions,
    Season,
    Source,
    Standing,
    shard_of,
)

_T = TypeVar("_T")

_WAIT_MS_MAX: Final = 50
_WAIT_STEP_MS: Final = 5
"""A write that is on its way to the index arrives within a few ms; one that missed it takes the
healer a second, and nobody should wait for that."""
_ALL_SHARDS: Final = tuple(range(SHARD_COUNT))


@dataclass(frozen=True, slots=True)
class Question:
    """A read whose board, season and freshness are settled."""

    board: Board
    season: Season
    fresh: Freshness
    as_of_ms: int

    @property
    def ordering(self) -> Ordering:
        """The order of the board."""
        return Ordering.of(self.board.spec)

    def meta(self, view: IndexView) -> ReadMeta:
        """What an answer from the index says about itself."""
        return ReadMeta(
            as_of_ms=self.as_of_ms,
            source=Source.INDEX,
            exactness=Exactness.EXACT,
            season_id=self.season.season_id,
            epoch=view.epoch,
            entry_count=view.entry_count,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """The ports of a read, and the steps that all reads share."""

    boards: BoardDirectory
    index: Index
    ledger: Ledger
    signer: TokenSigner
    clock: Clock

    async def question(self, board_id: str, options: ReadOptions) -> Question:
        """Raises BoardNotFound, SeasonNotFound, ConsistencyTokenInvalid."""
        board = await self.boards.get(board_id)
        if options.season_id not in ("", board.season.season_id):
            raise SeasonNotFound
        fresh = Freshness()
        if options.consistency_token:
            writes = self.signer.writes(options.consistency_token)
            if writes.season_number not in (0, board.season.number):
                raise ConsistencyTokenInvalid
            fresh = Freshness(writes.by_shard())
        return Question(board, board.season, fresh, self.clock.now_ms())

    async def ask(self, question: Question, read: Callable[[], Awaitable[_T]]) -> _T:
        """Runs a read of the index, again for a short while if it is behind the caller's write.

        Raises ReadBehind, IndexUnbuilt, IndexUnavailable; BoardNotFound where the season is not
        in the index because its board was deleted by another worker.
        """
        waited_ms = 0
        while True:
            try:
                return await read()
            except ReadBehind:
                if waited_ms >= _WAIT_MS_MAX:
                    raise
                await asyncio.sleep(_WAIT_STEP_MS / 1000)
                waited_ms += _WAIT_STEP_MS
            except IndexUnbuilt:
                await self.boards.reload(question.board.spec.board_id)
                raise

    async def rank(
        self, question: Question, user_ids: Sequence[int], mode: RankMode
    ) -> tuple[Mapping[int, tuple[IndexedEntry, int]], IndexView]:
        """The entries of some users with their ranks, those that exist.

        Each entry and its place in its own shard are of one instant, and so is the count of
        each other shard. Cost: two round trips.
        """
        cutoff_bytes = cutoff_bytes_of(mode)
        entries, _ = await self.ask(
            question,
            lambda: self.index.users(
                question.season.number, user_ids, cutoff_bytes=cutoff_bytes, fresh=question.fresh
            ),
        )
        # Asked also where nobody was found: what an answer says of the season is of all shards.
        cutoffs = [entry.key[:cutoff_bytes] for entry in entries.values()]
        counts, view = await self.ask(
            question,
            lambda: self.index.count_before(
                question.season.number, cutoffs, shards=_ALL_SHARDS, fresh=question.fresh
            ),
        )
        ranks = {}
        for position, (user_id, entry) in enumerate(entries.items()):
            home = shard_of(user_id)
            elsewhere = sum(
                shard_counts[position] for shard, shard_counts in enumerate(counts) if shard != home
            )
            ranks[user_id] = (entry, entry.before_in_shard + elsewhere + 1)
        return ranks, view

    async def complete(
        self, question: Question, standings: Sequence[Standing], view: EntryView
    ) -> Mapping[int, Standing]:
        """The entries by user, with what only PostgreSQL knows where it was asked for.

        Score and rank stay as the index had them, so that they fit each other.
        """
        found = {standing.user_id: standing for standing in standings}
        if view is EntryView.BASIC or not found:
            return found
        full = await self.ledger.standings(question.season.number, list(found))
        return {
            user_id: _with_details(standing, full.get(user_id))
            for user_id, standing in found.items()
        }


def cutoff_bytes_of(mode: RankMode) -> int:
    """How much of a key decides what stands before it: all of it, or the result alone."""
    return RESULT_BYTES if mode is RankMode.COMPETITION else KEY_BYTES


def _with_details(standing: Standing, full: Standing | None) -> Standing:
    if full is None:
        return standing
    return Standing(
        user_id=standing.user_id,
        score=standing.score,
        subscore=standing.subscore,
        achieve_time_ms=standing.achieve_time_ms,
        submission_count=full.submission_count,
        update_time_ms=full.update_time_ms,
        metadata=full.metadata,
    )
