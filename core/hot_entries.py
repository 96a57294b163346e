"""The entries of the users who are asked for most, with their ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cachetools import LRUCache

from core.board_directory import BoardDirectory
from core.errors import EntryNotFound, SeasonNotFound, Staleness, Unavailable
from core.ordering import Ordering
from core.own_writes import KeptAnswer, Mark, OwnWrites
from core.ports import Clock
from core.types import Board, EntryState, EntryView, RankedEntry, RankMode, ReadMeta, ReadOptions
from core.values import value

_Entry = KeptAnswer[RankedEntry]
_Key = tuple[int, int, RankMode]
"""Season number, user, rank mode."""


@dataclass(frozen=True, slots=True)
class HotEntryLimits:
    """How long entries are given, and how many are held. `fresh_s` or `entries_max` 0: none."""

    fresh_s: float = 30.0
    error_s: float = 30.0
    entries_max: int = 1_000


class EntryReader(Protocol):
    """Who reads entries, as core.get_entry.GetEntry does."""

    async def __call__(
        self, board_id: str, user_id: int, options: ReadOptions, *, hint: bytes | None = None
    ) -> tuple[RankedEntry, ReadMeta]:
        """A user's entry. `hint`: probably its key, which saves a round trip if it is."""


@value
class _Wanted:
    """A user's entry, and how it is to be read."""

    board: Board
    user_id: int
    options: ReadOptions
    hint: bytes | None

    @property
    def key(self) -> _Key:
        """What its answer is kept under."""
        return (self.board.season.number, self.user_id, self.options.rank_mode)


class HotEntries:
    """Answers GetEntry, from memory where that shows all that it has to.

    An answer is given for `fresh_s`. A write of this worker to the entry, or to one before it, ends
    it at once, and the next read begins with the key that the write gave the user. While the
    index cannot answer, it is given up to `error_s` with its age. Full entries, hidden ones and
    reads with a consistency token are always read.
    """

    def __init__(
        self,
        get_entry: EntryReader,
        *,
        boards: BoardDirectory,
        own_writes: OwnWrites,
        clock: Clock,
        limits: HotEntryLimits,
    ) -> None:
        self._get_entry = get_entry
        self._boards = boards
        self._own_writes = own_writes
        self._clock = clock
        self._limits = limits
        self._entries: LRUCache[_Key, _Entry] = LRUCache(limits.entries_max)

    async def __call__(
        self, board_id: str, user_id: int, options: ReadOptions
    ) -> tuple[RankedEntry, ReadMeta]:
        """As GetEntry, without a round trip where the answer is at hand, and with one where only
        the key is. Raises Staleness also where the index cannot answer and the answer at hand is
        too old for this caller.
        """
        if not (self._limits.fresh_s and self._limits.entries_max):
            return await self._get_entry(board_id, user_id, options)
        board = await self._boards.get(board_id)
        if options.season_id not in ("", board.season.season_id):
            raise SeasonNotFound
        wanted = _Wanted(board, user_id, options, self._hint(board, user_id))
        if options.view is not EntryView.BASIC or options.consistency_token:
            return await self._ask(wanted)
        return await self._entry(wanted)

    async def _entry(self, wanted: _Wanted) -> tuple[RankedEntry, ReadMeta]:
        now_s = self._clock.monotonic_s()
        entry = self._entries.get(wanted.key)
        if entry is not None and self._is_good(entry, wanted, now_s):
            return self._again(entry, now_s)
        mark = self._own_writes.mark(wanted.board.season.number)
        try:
            ranked, meta = await self._ask(wanted)
        except EntryNotFound:
            self._drop(wanted, mark)
            raise
        except Unavailable as error:
            return self._last_resort(wanted, error)
        self._keep(wanted, ranked, meta, mark=mark, began_s=now_s)
        return ranked, meta

    async def _ask(self, wanted: _Wanted) -> tuple[RankedEntry, ReadMeta]:
        return await self._get_entry(
            wanted.board.spec.board_id, wanted.user_id, wanted.options, hint=wanted.hint
        )

    def _is_good(self, entry: _Entry, wanted: _Wanted, now_s: float) -> bool:
        """Whether an answer may be given to a caller who comes now."""
        return (
            entry.age_ms(now_s) <= self._limits.fresh_s * 1000
            and entry.suits(wanted.options.max_staleness_ms, now_s)
            and entry.holds(self._own_writes)
        )

    def _hint(self, board: Board, user_id: int) -> bytes | None:
        """The key that this worker's last write gave the user."""
        own = self._own_writes.entry(board.season.number, user_id)
        return own.key if own is not None and own.state is EntryState.LIVE else None

    def _keep(
        self, wanted: _Wanted, ranked: RankedEntry, meta: ReadMeta, *, mark: Mark, began_s: float
    ) -> None:
        season, standing = wanted.board.season, ranked.standing
        own = self._own_writes.entry(season.number, wanted.user_id)
        if own is not None and standing.achieve_time_ms < own.achieve_time_ms:
            # The index missed this worker's own write to the entry; the healer will bring it.
            return
        if meta.season_id != season.season_id or ranked.hidden:
            # The season ended while it was being read; or only its owner may see it.
            return
        result = Ordering.of(wanted.board.spec).result(standing.score, standing.subscore)
        entry = KeptAnswer(ranked, meta, season.number, result, mark, began_s)
        known = self._entries.get(wanted.key)
        newest = known is None or entry.newer_than(known)
        # It was found in one read and counted in another: of a shard that is missing from one of
        # them the index may have told in the other.
        if newest and entry.may_be_kept(self._own_writes):
            self._entries[wanted.key] = entry

    def _drop(self, wanted: _Wanted, mark: Mark) -> None:
        """Forgets an entry that a read with this mark did not find."""
        known = self._entries.get(wanted.key)
        if known is not None and known.mark.generation <= mark.generation:
            del self._entries[wanted.key]

    def _last_resort(self, wanted: _Wanted, error: Unavailable) -> tuple[RankedEntry, ReadMeta]:
        """What is still known while the index cannot answer. Raises what it was given, or
        Staleness where that is too old for this caller.
        """
        now_s = self._clock.monotonic_s()
        entry = self._entries.get(wanted.key)
        if entry is None or not entry.is_last_resort(self._limits.error_s, now_s, self._own_writes):
            raise error
        if not entry.suits(wanted.options.max_staleness_ms, now_s):
            raise Staleness from error
        return self._again(entry, now_s)

    def _again(self, entry: _Entry, now_s: float) -> tuple[RankedEntry, ReadMeta]:
        """An answer that was read earlier, with its age."""
        return entry.answer, entry.meta_with(self._own_writes, now_s)
