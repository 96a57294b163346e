"""The first page of a board, which is what most callers ask for, read once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, replace
from typing import Final, Protocol

from cachetools import LRUCache

from core.board_directory import BoardDirectory
from core.crowds import Crowd
from core.errors import IndexUnavailable, SeasonNotFound, Staleness, Unavailable
from core.list_entries import EntryPage
from core.ordering import Ordering
from core.own_writes import EVERY_RESULT, KeptAnswer, Mark, OwnWrites, age_ms
from core.ports import Clock
from core.types import (
    ALL_SHARDS,
    ANY_SCORE,
    Board,
    EntryView,
    RankMode,
    ReadOptions,
    ScoreRange,
    Source,
)
from core.values import value

_REST_S: Final = 0.006
"""How long those who ask right after a crowd wait for others at most. Answers that leave together
cost less each, the worker as well as whoever reads them."""
_RESERVE: Final = 0.25
_RESERVE_S_MAX: Final = 0.1
"""The part of a caller's time that is left, and how much at most, when no new page is waited for
any more: for the way back on a busy loop.
"""

_Page = KeptAnswer[EntryPage]
_Key = tuple[int, int, RankMode]
"""Season number, page size, rank mode."""


@dataclass(frozen=True, slots=True)
class FirstPageLimits:
    """How long pages are given, and how many entries are held in all. `fresh_ms` 0: none."""

    fresh_ms: int = 250
    error_s: float = 30.0
    entries_max: int = 100_000


class PageReader(Protocol):
    """Who reads pages, as core.list_entries.ListEntries does."""

    async def __call__(
        self,
        board_id: str,
        *,
        page_size: int,
        page_token: str,
        start_rank: int | None,
        scores: ScoreRange,
        options: ReadOptions,
    ) -> EntryPage:
        """A page of a board."""


@value
class _Wanted:
    """A first page, and how old it may be."""

    board: Board
    page_size: int
    rank_mode: RankMode
    max_staleness_ms: int | None

    @property
    def key(self) -> _Key:
        """What its page is kept under."""
        return (self.board.season.number, self.page_size, self.rank_mode)


@value
class _Flight:
    """A read on its way; `mark` and `began_s` are from before it."""

    task: asyncio.Task[_Page]
    mark: Mark
    began_s: float


class FirstPages:
    """Answers ListEntries, first pages from memory where that shows all that it has to.

    A page is given for `fresh_ms`, and for as long again while one new read is on its way; then
    callers wait for a read that they share. Who asks on a busy loop or right after a crowd is
    answered with the others who do. A write of this worker to an entry of the page, or before it,
    ends it at once. While the index cannot answer, or not before the time of a caller is over, it
    is given up to `error_s` with its age. Other pages, full entries and reads with a consistency
    token are none of its business. `deadline_s` tells when the time of the caller is over, by the
    clock; reads are done in a `context` made for each.
    """

    def __init__(
        self,
        list_entries: PageReader,
        *,
        boards: BoardDirectory,
        own_writes: OwnWrites,
        clock: Clock,
        limits: FirstPageLimits,
        deadline_s: Callable[[], float | None] = lambda: None,
        context: Callable[[], Context] = Context,
    ) -> None:
        self._list_entries = list_entries
        self._deadline_s = deadline_s
        self._context = context
        self._boards = boards
        self._own_writes = own_writes
        self._clock = clock
        self._limits = limits
        self._pages: LRUCache[_Key, _Page] = LRUCache(limits.entries_max, getsizeof=_size)
        self._flights: dict[_Key, _Flight] = {}
        self._crowd = Crowd(rest_s=_REST_S)
        # The loop itself holds tasks weakly, and a flight may be overtaken by another.
        self._tasks: set[asyncio.Task[_Page]] = set()

    async def __call__(
        self,
        board_id: str,
        *,
        page_size: int,
        page_token: str,
        start_rank: int | None,
        scores: ScoreRange,
        options: ReadOptions,
    ) -> EntryPage:
        """As ListEntries, without a round trip where the page is at hand. Raises Staleness also
        where the index cannot answer and the page at hand is too old for this caller.
        """
        first = not page_token and start_rank in (None, 1) and scores == ANY_SCORE
        plain = options.view is EntryView.BASIC and not options.consistency_token
        if first and plain and self._limits.fresh_ms:
            # Before anything is looked at: what is at hand has to hold when it is given.
            await self._crowd.join()
            board = await self._boards.get(board_id)
            if options.season_id not in ("", board.season.season_id):
                raise SeasonNotFound
            wanted = _Wanted(board, page_size, options.rank_mode, options.max_staleness_ms)
            try:
                return await self._first_page(wanted)
            except SeasonNotFound:
                if options.season_id:
                    raise
            # The season ended while it was being read.
        return await self._list_entries(
            board_id,
            page_size=page_size,
            page_token=page_token,
            start_rank=start_rank,
            scores=scores,
            options=options,
        )

    async def _first_page(self, wanted: _Wanted) -> EntryPage:
        now_s = self._clock.monotonic_s()
        key = wanted.key
        page = self._pages.get(key)
        if page is not None and self._is_good(page, wanted, now_s):
            if page.age_ms(now_s) > self._limits.fresh_ms and key not in self._flights:
                self._start(wanted)
            return self._again(page, now_s)
        try:
            return await self._read(wanted)
        except Unavailable as error:
            return self._last_resort(wanted, error)

    def _is_good(self, page: _Page, wanted: _Wanted, now_s: float) -> bool:
        """Whether a page may be given to a caller who comes now."""
        return (
            page.age_ms(now_s) <= 2 * self._limits.fresh_ms
            and page.suits(wanted.max_staleness_ms, now_s)
            and page.holds(self._own_writes)
        )

    async def _read(self, wanted: _Wanted) -> EntryPage:
        """The page of a read that shows all that was acknowledged before this call."""
        flight = self._flights.get(wanted.key)
        if flight is not None and self._may_join(flight, wanted):
            page = await self._flown(flight, wanted)
            now_s = self._clock.monotonic_s()
            if page.suits(wanted.max_staleness_ms, now_s):
                return replace(page.answer, meta=page.meta_when(now_s))
        page = await self._flown(self._start(wanted), wanted)
        if wanted.max_staleness_ms is None or page.meta.staleness_ms <= wanted.max_staleness_ms:
            return page.answer
        if page.meta.source is not Source.DATABASE:
            raise Staleness
        # A replica said that for all; the primary is left to those who want it fresher.
        return await self._list(wanted, wanted.max_staleness_ms)

    async def _flown(self, flight: _Flight, wanted: _Wanted) -> _Page:
        """What a read gives. Raises IndexUnavailable shortly before the caller's time is over if
        there is something else to give.
        """
        end_s = self._deadline_s()
        if end_s is not None and self._last(wanted) is not None:
            left_s = max(0.0, end_s - self._clock.monotonic_s())
            patience_s = left_s - min(_RESERVE * left_s, _RESERVE_S_MAX)
            done, _ = await asyncio.wait({flight.task}, timeout=patience_s)
            if not done:
                raise IndexUnavailable(ALL_SHARDS)
        # Whoever gives up leaves the others their read.
        return await asyncio.shield(flight.task)

    def _may_join(self, flight: _Flight, wanted: _Wanted) -> bool:
        """Whether a read that began earlier will do. Which entries it will show is not known yet,
        so no write at all may have been noted since.
        """
        if not self._own_writes.untouched_since(
            wanted.board.season.number, flight.mark, EVERY_RESULT
        ):
            return False
        limit_ms = wanted.max_staleness_ms
        return limit_ms is None or age_ms(flight.began_s, self._clock.monotonic_s()) <= limit_ms

    def _start(self, wanted: _Wanted) -> _Flight:
        """Begins a read; from now on it is the one to join."""
        mark = self._own_writes.mark(wanted.board.season.number)
        began_s = self._clock.monotonic_s()
        task = asyncio.create_task(self._load(wanted, mark, began_s), context=self._context())
        flight = self._flights[wanted.key] = _Flight(task, mark, began_s)
        self._tasks.add(task)
        task.add_done_callback(self._landed(wanted.key))
        return flight

    def _landed(self, key: _Key) -> Callable[[asyncio.Task[_Page]], None]:
        def note(task: asyncio.Task[_Page]) -> None:
            self._tasks.discard(task)
            flight = self._flights.get(key)
            if flight is not None and flight.task is task:
                del self._flights[key]
            if not task.cancelled():
                # Nobody may wait for it; looking keeps asyncio from logging the failure.
                task.exception()

        return note

    async def _load(self, wanted: _Wanted, mark: Mark, began_s: float) -> _Page:
        """Reads a page, whatever the age that its callers put up with, and keeps it."""
        season = wanted.board.season
        answer = await self._list(wanted, None)
        result = _last_result(wanted.board, answer)
        page = KeptAnswer(answer, answer.meta, season.number, result, mark, began_s)
        known = self._pages.get(wanted.key)
        newest = known is None or page.newer_than(known)
        fits = _size(page) <= self._pages.maxsize
        elsewhere = answer.meta.shards_missing
        if newest and fits and page.may_be_kept(self._own_writes, elsewhere=elsewhere):
            self._pages[wanted.key] = page
        return page

    async def _list(self, wanted: _Wanted, max_staleness_ms: int | None) -> EntryPage:
        return await self._list_entries(
            wanted.board.spec.board_id,
            page_size=wanted.page_size,
            page_token="",
            start_rank=None,
            scores=ANY_SCORE,
            options=ReadOptions(
                rank_mode=wanted.rank_mode,
                season_id=wanted.board.season.season_id,
                max_staleness_ms=max_staleness_ms,
            ),
        )

    def _last_resort(self, wanted: _Wanted, error: Unavailable) -> EntryPage:
        """What is still known while the index cannot answer. Raises what it was given, or
        Staleness where that is too old for this caller.
        """
        now_s = self._clock.monotonic_s()
        page = self._last(wanted)
        if page is None:
            raise error
        if not page.suits(wanted.max_staleness_ms, now_s):
            raise Staleness from error
        return self._again(page, now_s)

    def _last(self, wanted: _Wanted) -> _Page | None:
        """The page at hand, if it may be given while nothing better can be had."""
        page, now_s = self._pages.get(wanted.key), self._clock.monotonic_s()
        if page is None or not page.is_last_resort(self._limits.error_s, now_s, self._own_writes):
            return None
        return page

    def _again(self, page: _Page, now_s: float) -> EntryPage:
        """A page that was read earlier, with its age."""
        answer = page.answer
        return EntryPage(
            answer.entries,
            answer.next_page_token,
            answer.previous_page_token,
            page.meta_with(self._own_writes, now_s),
        )


def _size(page: _Page) -> int:
    return len(page.answer.entries) + 1


def _last_result(board: Board, page: EntryPage) -> bytes:
    """The last result that a page depends on: on its last entry's or, where the page shows the
    whole board, on any.
    """
    if not page.next_page_token:
        return EVERY_RESULT
    last = page.entries[-1].standing
    return Ordering.of(board.spec).result(last.score, last.subscore)
