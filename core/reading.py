"""What every read of a board begins with, and how ranks are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from core.board_directory import BoardDirectory
from core.errors import (
    ConsistencyTokenInvalid,
    IndexUnbuilt,
    ReadBehind,
    SeasonNotFound,
    Staleness,
)
from core.ordering import RESULT_BYTES, Ordering, cutoff_bytes_of, ranks_of
from core.ports import Clock, Freshness, Index, IndexedEntry, IndexView, Ledger, PageSlice
from core.tokens import TokenSigner
from core.types import (
    LAG_MS_MAX,
    SHARD_COUNT,
    Board,
    EntryView,
    Exactness,
    RankedEntry,
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
    """A read whose board, season and freshness are settled. `max_staleness_ms` None: any age."""

    board: Board
    season: Season
    fresh: Freshness
    as_of_ms: int
    max_staleness_ms: int | None = None

    @property
    def ordering(self) -> Ordering:
        """The order of the board."""
        return Ordering.of(self.board.spec)

    def meta(self, view: IndexView) -> ReadMeta:
        """What an answer from the index says about itself. Raises Staleness where the caller
        wants a fresher one: every read of the index is refused here or not at all.
        """
        lag_ms = self.as_of_ms - view.caught_up_ms if view.caught_up_ms else 0
        staleness_ms = lag_ms if lag_ms > LAG_MS_MAX else 0
        if self.max_staleness_ms is not None and staleness_ms > self.max_staleness_ms:
            raise Staleness
        return ReadMeta(
            as_of_ms=self.as_of_ms,
            source=Source.INDEX,
            exactness=Exactness.EXACT,
            season_id=self.season.season_id,
            epoch=view.epoch,
            entry_count=view.entry_count,
            staleness_ms=staleness_ms,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """Entries that stand next to each other, as (key, tail) pairs in rank order.

    `before` entries stand before the first one. `previous` is the key right before it, b"" where
    that cannot have the same result. `hidden` is the index of an entry that only its owner sees.
    """

    before: int
    entries: Sequence[tuple[bytes, bytes]]
    previous: bytes = b""
    hidden: int | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """For each cutoff, how many entries of each shard stand before it."""

    by_cutoff: Mapping[bytes, Sequence[int]]
    view: IndexView

    def before(self, cutoff: bytes) -> int:
        """How many entries stand before a cutoff."""
        return sum(self.by_cutoff[cutoff])

    def elsewhere(self, cutoff: bytes, home: int) -> int:
        """How many of them are of other shards."""
        return self.before(cutoff) - self.by_cutoff[cutoff][home]


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
            fresh = Freshness(writes.by_shard(), writes.ledger)
        return Question(board, board.season, fresh, self.clock.now_ms(), options.max_staleness_ms)

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
        self,
        question: Question,
        user_ids: Sequence[int],
        mode: RankMode,
        *,
        owners: Collection[int] = (),
        hints: Mapping[int, bytes] | None = None,
    ) -> tuple[Mapping[int, tuple[IndexedEntry, int]], IndexView]:
        """The entries of some users with their ranks, those that exist; a hidden one only where
        its user is among `owners`, with the rank it would have.

        Each entry and its place in its own shard are of one instant, and so is the count of
        each other shard. Cost: two round trips; one where `hints` has the right key of each user.
        """
        cutoff_bytes = cutoff_bytes_of(mode)
        guesses = {hint[:cutoff_bytes] for hint in (hints or {}).values()}
        if guesses:
            (entries, home_view), counts = await asyncio.gather(
                self._entries(question, user_ids, cutoff_bytes), self.counts(question, guesses)
            )
        else:
            entries, home_view = await self._entries(question, user_ids, cutoff_bytes)
            counts = None
        shown = {
            user_id: entry
            for user_id, entry in entries.items()
            if not entry.hidden or user_id in owners
        }
        cutoffs = {entry.key[:cutoff_bytes] for entry in shown.values()}
        if counts is None or not cutoffs <= guesses:
            # Also where nobody was found: what an answer says of the season is of all shards.
            counts = await self.counts(question, cutoffs)
        return {
            user_id: (
                entry,
                1
                + entry.before_in_shard
                + counts.elsewhere(entry.key[:cutoff_bytes], shard_of(user_id)),
            )
            for user_id, entry in shown.items()
        }, _as_old_as(counts.view, home_view)

    async def counts(self, question: Question, cutoffs: Iterable[bytes]) -> Counts:
        """What stands before some keys or beginnings of keys, in every shard.

        Cost: one round trip, also where there are none: then it tells the state of the season.
        """
        asked = list(dict.fromkeys(cutoffs))
        shards, view = await self.ask(
            question,
            lambda: self.index.count_before(
                question.season.number, asked, shards=_ALL_SHARDS, fresh=question.fresh
            ),
        )
        return Counts(dict(zip(asked, zip(*shards, strict=True), strict=True)), view)

    async def rows(self, question: Question, *, offset: int, limit: int) -> PageSlice:
        """Up to `limit` entries after the first `offset`. Cost: as core.ports.Index.page_at."""
        return await self.ask(
            question,
            lambda: self.index.page_at(
                question.season.number, offset=offset, limit=limit, fresh=question.fresh
            ),
        )

    async def tell(
        self, question: Question, run: Run, options: ReadOptions
    ) -> Sequence[RankedEntry]:
        """The entries of a run with their ranks.

        Cost: nothing, except one round trip where equals of the first one stand before the run
        and share its rank, and what `complete` costs.
        """
        keys = [key for key, _ in run.entries]
        ranks = ranks_of(
            keys,
            options.rank_mode,
            before=run.before,
            first=await self._shared_rank(question, run, options.rank_mode),
            hidden=run.hidden,
        )
        standings = [question.ordering.standing(key, tail) for key, tail in run.entries]
        complete = await self.complete(question, standings, options.view)
        return [
            RankedEntry(complete[standing.user_id], rank, hidden=index == run.hidden)
            for index, (standing, rank) in enumerate(zip(standings, ranks, strict=True))
        ]

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

    async def _entries(
        self, question: Question, user_ids: Sequence[int], cutoff_bytes: int
    ) -> tuple[Mapping[int, IndexedEntry], IndexView | None]:
        if not user_ids:
            return {}, None
        return await self.ask(
            question,
            lambda: self.index.users(
                question.season.number, user_ids, cutoff_bytes=cutoff_bytes, fresh=question.fresh
            ),
        )

    async def _shared_rank(self, question: Question, run: Run, mode: RankMode) -> int | None:
        """The rank of a run's first entry where it shares it with entries before the run."""
        result = run.previous[:RESULT_BYTES]
        if (
            mode is RankMode.ORDINAL
            or not run.entries
            or run.entries[0][0][:RESULT_BYTES] != result
        ):
            return None
        if run.before == 1:
            return 1
        counts = await self.counts(question, [result])
        # The entry right before the run is one of the equals, whatever has moved since.
        return min(1 + counts.before(result), run.before)


def _as_old_as(view: IndexView, other: IndexView | None) -> IndexView:
    """What two reads show together: no more than the one that was behind further."""
    if other is None:
        return view
    return replace(view, caught_up_ms=min(view.caught_up_ms, other.caught_up_ms))


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
