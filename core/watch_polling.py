"""One read for all who watch the top of a season, and one for all who watch users of it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from core.errors import BoardNotFound, StandingsError
from core.reading import Question, Reading
from core.types import Board, RankedEntry, RankMode, ReadMeta
from core.watch_reads import SeasonBoard, SeasonReader, WatchSlots
from core.watch_states import (
    KnownStates,
    WatchMessage,
    WatchState,
    WatchTarget,
    question_digest,
    state_of,
)

_log = logging.getLogger(__name__)

_PAUSE_MIN_S: Final = 0.1
"""The shortest time between two reads, also where watchers join one after another."""


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
    first_read: int
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ready: bool = False
    pausing: bool = False
    failure: Exception | None = None

    def leave(self) -> None:
        """Gives the place back; the last one to go ends the reading."""
        self.poller.leave(self)


class PollerName(NamedTuple):
    """What one poller reads: a season's users, or else its top, by a rank mode."""

    season_number: int
    mode: RankMode
    of_users: bool


@dataclass(frozen=True, slots=True)
class Shared:
    """What all pollers of a worker have in common."""

    known: KnownStates = field(default_factory=KnownStates)
    slots: WatchSlots = field(default_factory=WatchSlots)


class Poller:
    """Reads a season for its watchers, once in the shortest interval that any of them asked for:
    its top, or else the users that they follow.

    From the end of a read to the next one it is at least that interval, and at least as long as
    the read took. `ended`: there is nothing to read any more, because of an error, or because the
    board, as it is now, has another season.
    """

    def __init__(
        self,
        reading: Reading,
        question: Question,
        name: PollerName,
        shared: Shared,
        *,
        on_end: Callable[[], None],
    ) -> None:
        self._clock = reading.clock
        self._question = question
        self._mode = name.mode
        self._known = shared.known
        self._on_end = on_end
        self._board = SeasonBoard(reading, question.board, shared.slots)
        reader = SeasonReader(reading, name.mode)
        self._read = reader.users if name.of_users else reader.tops
        self._slot = shared.slots.users if name.of_users else shared.slots.tops
        self._feeds: dict[WatchTarget, Feed] = {}
        self._intervals: Counter[int] = Counter()
        self._new: set[Watcher] = set()
        self._reads = 0
        self._read_end_s = self._read_took_s = 0.0
        self._nudge = asyncio.Event()
        self.user_count = 0
        """The users of all targets, those of different targets counted apart."""
        self.failing = False
        """Whether the last read failed."""
        self.ended: Exception | Board | None = None
        # In a context of its own: it stays when the first who watches goes.
        self.task = asyncio.create_task(self._run(), context=Context())

    @property
    def watched(self) -> bool:
        """Whether anybody watches."""
        return bool(self._intervals)

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
        watcher = Watcher(self, feed, interval_ms, self._reads + 1)
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
                await self._look()
                await self._pause()
        except Exception as error:  # noqa: BLE001 - a bug ends the watches, none waits for ever
            _log.exception("watching a season broke")
            self.end(error)
        finally:
            self._on_end()

    async def _pause(self) -> None:
        """Returns when the next read is due, or there is nobody left to read for."""
        while self._intervals and self.ended is None:
            least_s = _PAUSE_MIN_S if self._new else min(self._intervals) / 1000
            pause_s = max(least_s, _PAUSE_MIN_S, self._read_took_s)
            left_s = self._read_end_s + pause_s - self._clock.monotonic_s()
            if left_s <= 0:
                return
            self._nudge.clear()
            await wait(self._nudge, left_s)

    async def _look(self) -> None:
        """Reads for everybody who watches by now; a season that is over once more."""
        try:
            board = await self._board.get()
            over = board.season != self._question.season
            if not over:
                self._question = replace(self._question, board=board)
            async with self._slot:
                # Whoever waited here for the others may have gone meanwhile.
                if not self._intervals or self.ended is not None:
                    return
                await self._look_now()
        except BoardNotFound as error:
            self.end(error)
        else:
            if over:
                self.end(board)

    async def _look_now(self) -> None:
        self._reads += 1
        self._question = replace(self._question, as_of_ms=self._clock.now_ms())
        began_s = self._clock.monotonic_s()
        failure = None
        try:
            await self._read_feeds(self._question)
        except BoardNotFound:
            raise
        except StandingsError as error:
            failure = error
        self._read_end_s = self._clock.monotonic_s()
        self._read_took_s = self._read_end_s - began_s
        self.failing = failure is not None
        for watcher in [each for each in self._new if each.first_read <= self._reads]:
            watcher.ready = failure is None
            watcher.failure = failure
            watcher.wake.set()
            if watcher.ready:
                self._new.discard(watcher)

    async def _read_feeds(self, question: Question) -> None:
        # Those that join while the index answers are read for the next time.
        feeds = list(self._feeds.values())
        found, view = await self._read(question, [feed.target for feed in feeds])
        meta = question.meta(view)
        for feed in feeds:
            self._publish(feed, found[feed.target], meta)

    def _publish(self, feed: Feed, entries: Sequence[RankedEntry], meta: ReadMeta) -> None:
        state = feed.state
        if state is None or state.entries != tuple(entries):
            state = state_of(entries)
            self._known.note(self._question.season.number, feed.question, state)
        feed.publish(state, meta)

    def _watchers(self) -> Iterator[Watcher]:
        for feed in self._feeds.values():
            yield from feed.watchers


async def wait(event: asyncio.Event, timeout_s: float) -> None:
    """Returns when the event is set, or time is up."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
