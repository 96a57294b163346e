"""One reader for all watchers of a season: it reads once for as many as there are."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from core.errors import BoardNotFound, LedgerUnavailable, StandingsError
from core.ordering import ranks_of
from core.ports import IndexedEntry, IndexView, KeyRange
from core.reading import Question, Reading
from core.types import Board, RankedEntry, RankMode, ReadMeta, ReadOptions
from core.watch_states import (
    KnownStates,
    WatchMessage,
    WatchState,
    WatchTarget,
    question_digest,
    state_of,
)

_log = logging.getLogger(__name__)

_TICK_MIN_S: Final = 0.1
"""The shortest time between two reads, also where watchers join one after another."""
_LOOKUP_S: Final = 0.1
"""How long a read waits for PostgreSQL to tell the board's season; the index answers without."""


@dataclass(slots=True, eq=False)
class Feed:
    """One target, and its latest state for all who watch it.

    `messages` are those that this state has led to since the last read, by event and by the
    digest of what the watcher had before.
    """

    target: WatchTarget
    question: bytes
    watchers: set[Watcher] = field(default_factory=set)
    state: WatchState | None = None
    meta: ReadMeta | None = None
    messages: dict[tuple[int, bytes], WatchMessage] = field(default_factory=dict)

    def publish(self, state: WatchState, meta: ReadMeta) -> None:
        """Puts a state in place, and wakes who watches if it is another one."""
        changed = self.state is not state
        self.state, self.meta = state, meta
        self.messages.clear()
        if changed:
            for watcher in self.watchers:
                if not watcher.pausing:
                    watcher.wake.set()


@dataclass(slots=True, eq=False)
class Watcher:
    """One watcher's place at a feed. `wake` is set when there may be something to tell.

    `ready`: the feed's state was read after the watcher came. `failure`: the last such read
    failed, for this reason. `pausing`: it knows that there is something to tell, and waits for its
    own interval; to wake it for more would cost as much as to tell it.
    """

    poller: Poller
    feed: Feed
    interval_ms: int
    first_tick: int
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ready: bool = False
    pausing: bool = False
    failure: Exception | None = None

    def leave(self) -> None:
        """Gives the place back; the last one to go ends the reading."""
        self.poller.leave(self)


class Poller:
    """Reads a season for its watchers, once in the shortest interval that any of them asked for.

    `ended`: there is nothing to read any more, because of an error, or because the board, as it
    is now, has another season.
    """

    def __init__(
        self,
        reading: Reading,
        question: Question,
        mode: RankMode,
        *,
        known: KnownStates,
        on_end: Callable[[], None],
    ) -> None:
        self._reading = reading
        self._question = question
        self._mode = mode
        self._known = known
        self._on_end = on_end
        self._feeds: dict[WatchTarget, Feed] = {}
        self._intervals: Counter[int] = Counter()
        self._new: set[Watcher] = set()
        self._made: dict[tuple[bytes, bytes, int], RankedEntry] = {}
        self._ticks = 0
        self._tick_s = -math.inf
        self._nudge = asyncio.Event()
        self.user_count = 0
        """The users of all targets, those of different targets counted apart."""
        self.failing = False
        """Whether the last read failed."""
        self.ended: Exception | Board | None = None
        self.task = asyncio.create_task(self._run())

    @property
    def season_number(self) -> int:
        """The season that is read."""
        return self._question.season.number

    def follows(self, target: WatchTarget) -> bool:
        """Whether somebody watches this target already."""
        return target in self._feeds

    def join(self, target: WatchTarget, interval_ms: int) -> Watcher:
        """A place at a target's feed; it has to be left."""
        feed = self._feeds.get(target)
        if feed is None:
            name = question_digest(self._question.board.spec.board_id, self._mode, target)
            feed = self._feeds[target] = Feed(target, name)
            self.user_count += len(target.user_ids)
        # What is read at this moment began before the watcher came.
        watcher = Watcher(self, feed, interval_ms, self._ticks + 1)
        feed.watchers.add(watcher)
        self._new.add(watcher)
        self._intervals[interval_ms] += 1
        self._nudge.set()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Takes a place back."""
        feed = watcher.feed
        feed.watchers.discard(watcher)
        if not feed.watchers and self._feeds.get(feed.target) is feed:
            del self._feeds[feed.target]
            self.user_count -= len(feed.target.user_ids)
        self._new.discard(watcher)
        self._intervals[watcher.interval_ms] -= 1
        if not self._intervals[watcher.interval_ms]:
            del self._intervals[watcher.interval_ms]
        if not self._intervals:
            self._nudge.set()

    def end(self, reason: Exception | Board) -> None:
        """Tells everybody that it is over; what was said first stays."""
        if self.ended is None:
            self.ended = reason
            self._on_end()
        self._nudge.set()
        for watcher in self._watchers():
            watcher.wake.set()

    async def _run(self) -> None:
        try:
            while self._intervals and self.ended is None:
                await self._tick()
                await self._pause()
        except Exception as error:  # noqa: BLE001 - a bug ends the watches, none waits for ever
            _log.exception("watching a season broke")
            self.end(error)
        finally:
            self._on_end()

    async def _pause(self) -> None:
        """Returns when the next read is due, or there is nobody left to read for."""
        while self._intervals and self.ended is None:
            least_s = _TICK_MIN_S if self._new else min(self._intervals) / 1000
            left_s = self._tick_s + max(least_s, _TICK_MIN_S) - self._reading.clock.monotonic_s()
            if left_s <= 0:
                return
            self._nudge.clear()
            await wait(self._nudge, left_s)

    async def _tick(self) -> None:
        self._ticks += 1
        self._tick_s = self._reading.clock.monotonic_s()
        failure = None
        try:
            await self._read()
        except BoardNotFound as error:
            self.end(error)
            return
        except StandingsError as error:
            failure = error
        self.failing = failure is not None
        for watcher in [each for each in self._new if each.first_tick <= self._ticks]:
            watcher.ready = failure is None
            watcher.failure = failure
            watcher.wake.set()
            if watcher.ready:
                self._new.discard(watcher)

    async def _read(self) -> None:
        question = await self._look_up()
        if question.season != self._question.season:
            self.end(question.board)
            return
        self._question = question
        # Those that join while the index answers are read for the next time.
        feeds = list(self._feeds.values())
        made: dict[tuple[bytes, bytes, int], RankedEntry] = {}
        tops = [feed for feed in feeds if feed.target.top_count]
        if tops:
            count = max(feed.target.top_count for feed in tops)
            entries, view = await self._top(question, count, made)
            for feed in tops:
                self._publish(feed, entries[: feed.target.top_count], question, view)
        lists = [feed for feed in feeds if feed.target.user_ids]
        if lists:
            await self._read_users(question, lists, made)
        self._made = made

    async def _look_up(self) -> Question:
        """The question as of now; with the season known before where PostgreSQL is silent."""
        board_id = self._question.board.spec.board_id
        with suppress(LedgerUnavailable, TimeoutError):
            async with asyncio.timeout(_LOOKUP_S):
                return await self._reading.question(board_id, ReadOptions())
        return replace(self._question, as_of_ms=self._reading.clock.now_ms())

    async def _top(
        self, question: Question, count: int, made: dict[tuple[bytes, bytes, int], RankedEntry]
    ) -> tuple[Sequence[RankedEntry], IndexView]:
        window = await self._reading.ask(
            question,
            lambda: self._reading.index.window(
                question.season.number,
                b"",
                above=0,
                below=count,
                within=KeyRange(),
                fresh=question.fresh,
            ),
        )
        ranks = ranks_of([key for key, _ in window.below], self._mode)
        entries = [
            self._entry(question, key, tail, rank, made)
            for (key, tail), rank in zip(window.below, ranks, strict=True)
        ]
        return entries, window.view

    async def _read_users(
        self,
        question: Question,
        feeds: Sequence[Feed],
        made: dict[tuple[bytes, bytes, int], RankedEntry],
    ) -> None:
        user_ids = sorted({user_id for feed in feeds for user_id in feed.target.user_ids})
        ranks, view = await self._reading.rank(question, user_ids, self._mode)
        for feed in feeds:
            found: list[tuple[IndexedEntry, int]] = [
                ranks[user_id] for user_id in feed.target.user_ids if user_id in ranks
            ]
            found.sort(key=lambda ranked: ranked[0].key)
            entries = [
                self._entry(question, entry.key, entry.tail, rank, made) for entry, rank in found
            ]
            self._publish(feed, entries, question, view)

    def _entry(
        self,
        question: Question,
        key: bytes,
        tail: bytes,
        rank: int,
        made: dict[tuple[bytes, bytes, int], RankedEntry],
    ) -> RankedEntry:
        """An entry, the same object as long as it stays the same: states share it."""
        name = (key, tail, rank)
        entry = made.get(name) or self._made.get(name)
        if entry is None:
            entry = RankedEntry(question.ordering.standing(key, tail), rank)
        made[name] = entry
        return entry

    def _publish(
        self, feed: Feed, entries: Sequence[RankedEntry], question: Question, view: IndexView
    ) -> None:
        state = feed.state
        if state is None or state.entries != tuple(entries):
            state = state_of(entries)
            self._known.note(question.season.number, feed.question, state)
        feed.publish(state, question.meta(view))

    def _watchers(self) -> Iterator[Watcher]:
        for feed in self._feeds.values():
            yield from feed.watchers


async def wait(event: asyncio.Event, timeout_s: float) -> None:
    """Returns when the event is set, or time is up."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
