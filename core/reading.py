"""What every read of a board begins with, and how ranks are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from core.board_directory import BoardDirectory
from core.errors import ConsistencyTokenInvalid, SeasonNotFound, ShardsMissing, Staleness
from core.index_views import NOTHING, as_old_as
from core.ordering import RESULT_BYTES, Ordering, cutoff_bytes_of, ranks_of
from core.ports import Clock, EntryReads, Freshness, IndexedEntry, IndexView, Ledger, PageSlice
from core.shared_reads import SharedReads
from core.tokens import TokenSigner
from core.types import (
    ALL_SHARDS,
    LAG_MS_MAX,
    Board,
    EntryView,
    Exactness,
    RankedEntry,
    RankMode,
    ReadMeta,
    ReadOptions,
    Season,
    Standing,
    shard_of,
)
from core.values import value

Ranks: TypeAlias = tuple[Mapping[int, tuple[IndexedEntry, int]], IndexView]
"""Entries with their ranks by user, and what was read of the season for that."""
Wanted: TypeAlias = tuple[int, bytes]
"""A user, and what its key probably is; b"": nobody knows."""

_ANY: Final = Freshness()


@value
class Question:
    """A read whose board, season and freshness are settled, and whom it asks. `max_staleness_ms`
    None: any age.
    """

    board: Board
    season: Season
    fresh: Freshness
    as_of_ms: int
    entries: EntryReads
    max_staleness_ms: int | None = None

    @property
    def ordering(self) -> Ordering:
        """The order of the board."""
        return Ordering.of(self.board.spec)

    def meta(self, view: IndexView) -> ReadMeta:
        """What an answer says about itself. Raises Staleness where the caller wants a fresher one:
        every read is refused here or not at all.
        """
        # A snapshot may have been behind when it was made, as an index may be now. The state of a
        # replica is as a snapshot of its moment.
        moment_ms = view.snapshot_ms or self.as_of_ms
        lag_ms = moment_ms - view.caught_up_ms if view.caught_up_ms else 0
        staleness_ms = lag_ms if lag_ms > LAG_MS_MAX else 0
        if view.snapshot_ms:
            staleness_ms += max(1, self.as_of_ms - moment_ms)
        if self.max_staleness_ms is not None and staleness_ms > self.max_staleness_ms:
            raise Staleness
        exact = view.fewer == view.more == 0
        return ReadMeta(
            as_of_ms=moment_ms,
            source=view.source,
            exactness=Exactness.EXACT if exact else Exactness.INTERVAL,
            season_id=self.season.season_id,
            epoch=view.epoch,
            entry_count=view.entry_count,
            staleness_ms=staleness_ms,
            shards_missing=tuple(sorted(view.missing)),
            fewer=view.fewer,
            more=view.more,
        )


@value
class Run:
    """Entries that stand next to each other, as (key, tail) pairs in rank order.

    `before` entries stand before the first one. `previous` is the key right before it, b"" where
    that cannot have the same result. `hidden` is the index of an entry that only its owner sees.
    """

    before: int
    entries: Sequence[tuple[bytes, bytes]]
    view: IndexView
    previous: bytes = b""
    hidden: int | None = None


@value
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
    """The ports of a read, and the steps that all reads share. `partial_entries` are asked where
    the caller lets shards be left out; None: the same as the others. `together` brings those
    together who ask for one rank each; None: everybody asks alone.
    """

    boards: BoardDirectory
    entries: EntryReads
    ledger: Ledger
    signer: TokenSigner
    clock: Clock
    partial_entries: EntryReads | None = None
    together: SharedReads[Wanted, Ranks] | None = None

    async def question(self, board_id: str, options: ReadOptions) -> Question:
        """Raises BoardNotFound, SeasonNotFound, ConsistencyTokenInvalid."""
        board = await self.boards.get(board_id)
        if options.season_id not in ("", board.season.season_id):
            raise SeasonNotFound
        fresh = Freshness(max_staleness_ms=options.max_staleness_ms)
        if options.consistency_token:
            writes = self.signer.writes(options.consistency_token)
            if writes.season_number not in (0, board.season.number):
                raise ConsistencyTokenInvalid
            fresh = Freshness(writes.by_shard(), writes.ledger, options.max_staleness_ms)
        partial = options.allow_partial and self.partial_entries is not None
        return Question(
            board=board,
            season=board.season,
            fresh=fresh,
            as_of_ms=self.clock.now_ms(),
            entries=self.partial_entries if partial and self.partial_entries else self.entries,
            max_staleness_ms=options.max_staleness_ms,
        )

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
        Who asks for one user, however fresh, shares them with others.
        """
        plain = question.entries is self.entries and question.fresh == _ANY
        if len(user_ids) != 1 or not plain or self.together is None:
            return await self._rank(question, user_ids, mode, owners=owners, hints=hints or {})
        (user_id,) = user_ids
        hint = (hints or {}).get(user_id, b"")

        async def read(wanted: Sequence[Wanted]) -> Ranks:
            users = list(dict(wanted))
            keys = {user: key for user, key in wanted if key}
            # Who may see a hidden entry is looked at below.
            return await self._rank(question, users, mode, owners=users, hints=keys)

        kind = (question.season.number, mode, bool(hint))
        try:
            ranks, view = await self.together.answer(kind, (user_id, hint), read)
        except ShardsMissing:
            # Perhaps nobody answers for another's shard.
            return await self._rank(question, user_ids, mode, owners=owners, hints=hints or {})
        found = ranks.get(user_id)
        if found is None or (found[0].hidden and user_id not in owners):
            return {}, view
        return {user_id: found}, view

    async def _rank(
        self,
        question: Question,
        user_ids: Sequence[int],
        mode: RankMode,
        *,
        owners: Collection[int],
        hints: Mapping[int, bytes],
    ) -> Ranks:
        cutoff_bytes = cutoff_bytes_of(mode)
        guesses = {hint[:cutoff_bytes] for hint in hints.values()}
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
        }, as_old_as(counts.view, home_view)

    async def counts(self, question: Question, cutoffs: Iterable[bytes]) -> Counts:
        """What stands before some keys or beginnings of keys, in every shard.

        Cost: one round trip, also where there are none: then it tells the state of the season.
        """
        asked = list(dict.fromkeys(cutoffs))
        shards, view = await question.entries.count_before(
            question.season.number, asked, shards=ALL_SHARDS, fresh=question.fresh
        )
        return Counts(dict(zip(asked, zip(*shards, strict=True), strict=True)), view)

    async def rows(self, question: Question, *, offset: int, limit: int) -> PageSlice:
        """Up to `limit` entries after the first `offset`. Cost: as EntryReads.page_at."""
        return await question.entries.page_at(
            question.season.number, offset=offset, limit=limit, fresh=question.fresh
        )

    async def tell(
        self, question: Question, run: Run, options: ReadOptions
    ) -> tuple[Sequence[RankedEntry], ReadMeta]:
        """The entries of a run with their ranks, and what the answer says of itself.

        Cost: nothing, except one round trip where equals of the first one stand before the run
        and share its rank, and what `complete` costs. Raises Staleness.
        """
        first, view = await self._shared_rank(question, run, options.rank_mode)
        meta = question.meta(view)
        keys = [key for key, _ in run.entries]
        ranks = ranks_of(keys, options.rank_mode, before=run.before, first=first, hidden=run.hidden)
        ordering = question.ordering
        standings = [ordering.standing(key, tail) for key, tail in run.entries]
        complete = await self.complete(question, standings, options.view)
        return [
            RankedEntry(complete[standing.user_id], rank, hidden=index == run.hidden)
            for index, (standing, rank) in enumerate(zip(standings, ranks, strict=True))
        ], meta

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
    ) -> tuple[Mapping[int, IndexedEntry], IndexView]:
        if not user_ids:
            return {}, NOTHING
        return await question.entries.users(
            question.season.number, user_ids, cutoff_bytes=cutoff_bytes, fresh=question.fresh
        )

    async def _shared_rank(
        self, question: Question, run: Run, mode: RankMode
    ) -> tuple[int | None, IndexView]:
        """The rank of a run's first entry where it shares it with entries before the run, and the
        view of the run and of what was read for this.
        """
        result = run.previous[:RESULT_BYTES]
        if (
            mode is RankMode.ORDINAL
            or not run.entries
            or run.entries[0][0][:RESULT_BYTES] != result
        ):
            return None, run.view
        if run.before == 1:
            return 1, run.view
        counts = await self.counts(question, [result])
        # The entry right before the run is one of the equals, whatever has moved since.
        return min(1 + counts.before(result), run.before), as_old_as(run.view, counts.view)


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
