"""Follows the top of a board, or some users: what they are, then what changes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from core.errors import Draining, InvalidInput, TooManyWatches
from core.reading import Question, Reading
from core.types import Board, Exactness, RankMode, ReadMeta, ReadOptions, Source
from core.watch_polling import Poller, PollerName, Shared, Watcher, wait
from core.watch_states import (
    NO_STATE,
    KnownStates,
    WatchEvent,
    WatchMessage,
    WatchState,
    WatchTarget,
    difference,
    question_digest,
)

__all__ = ["WatchEntries", "WatchEvent", "WatchLimits", "WatchMessage", "WatchTarget"]


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """What a worker lets be watched, and how long it stays silent at most."""

    watch_count_max: int = 10_000
    watch_count_per_caller_max: int = 2_000
    board_count_max: int = 1_000
    user_count_max: int = 2_000
    heartbeat_s: float = 15.0


class WatchEntries:
    """Answers WatchEntries.

    All watchers of a season share its reads (core/watch_polling.py), by rank mode: one of the top,
    a round trip, and one of all watched users, two of them, each in the shortest interval that
    any of its watchers asked for. A watcher holds the state it was told last and no queue: who
    reads slowly is told less often, and never falls behind.
    """

    def __init__(self, reading: Reading, limits: WatchLimits) -> None:
        self._reading = reading
        self._limits = limits
        self._shared = Shared()
        self._pollers: dict[PollerName, Poller] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._callers: Counter[str] = Counter()

    @property
    def watch_count(self) -> int:
        """How many watches there are."""
        return self._callers.total()

    async def __call__(
        self,
        board_id: str,
        target: WatchTarget,
        *,
        min_interval_ms: int,
        resume_token: str,
        options: ReadOptions,
        caller: str,
    ) -> AsyncGenerator[WatchMessage, None]:
        """The messages of one watch; of the options, rank_mode and season_id count.

        Cost: a share of the season's reads. Raises BoardNotFound and TooManyWatches, also later,
        SeasonNotFound, InvalidInput for a resume_token of another question, and Unavailable where
        the index cannot be read the first time.
        """
        with self._admitted(caller):
            question = await self._reading.question(
                board_id, ReadOptions(season_id=options.season_id)
            )
            watch = _Watch(self._reading, self._shared.known, question, target, options.rank_mode)
            if resume_token:
                watch.resume(resume_token, season_named=bool(options.season_id))
            while True:
                if watch.new_season is not None:
                    message = watch.season_change()
                    yield message
                    watch.told(message)
                    if options.season_id:
                        return
                watcher = self._join(watch.question, target, options.rank_mode, min_interval_ms)
                try:
                    while following := await watch.next(watcher, self._limits.heartbeat_s):
                        yield following
                        watch.told(following)
                finally:
                    watcher.leave()

    async def aclose(self) -> None:
        """Ends all reading, and whatever is still watched."""
        for poller in tuple(self._pollers.values()):
            poller.end(Draining())
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def _admitted(self, caller: str) -> Iterator[None]:
        limits = self._limits
        if self.watch_count >= limits.watch_count_max:
            raise TooManyWatches(f"this server holds at most {limits.watch_count_max}")
        if self._callers[caller] >= limits.watch_count_per_caller_max:
            raise TooManyWatches(f"one caller may have {limits.watch_count_per_caller_max}")
        self._callers[caller] += 1
        try:
            yield
        finally:
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]

    def _join(
        self, question: Question, target: WatchTarget, mode: RankMode, min_interval_ms: int
    ) -> Watcher:
        name = PollerName(question.season.number, mode, bool(target.user_ids))
        poller = self._pollers.get(name)
        if poller is None or not poller.follows(target):
            self._require_room(name, target)
        if poller is None:
            poller = self._pollers[name] = self._start(question, name)
        return poller.join(target, min_interval_ms)

    def _require_room(self, name: PollerName, target: WatchTarget) -> None:
        limits = self._limits
        # A poller that nobody watches any more ends by itself.
        watched = {name for name, poller in self._pollers.items() if poller.watched}
        if len(watched | {name}) > limits.board_count_max:
            raise TooManyWatches(f"this server follows at most {limits.board_count_max} boards")
        user_count = sum(poller.user_count for poller in self._pollers.values())
        if user_count + len(target.user_ids) > limits.user_count_max:
            raise TooManyWatches(f"this server follows at most {limits.user_count_max} users")

    def _start(self, question: Question, name: PollerName) -> Poller:
        def ended() -> None:
            # Somebody may have begun anew in the meantime.
            if self._pollers.get(name) is poller:
                del self._pollers[name]

        poller = Poller(self._reading, question, name, self._shared, on_end=ended)
        # The loop itself keeps only weak references to tasks.
        self._tasks.add(poller.task)
        poller.task.add_done_callback(self._tasks.discard)
        return poller


class _Watch:
    """What one watcher has been told. `new_season`: the board, if its season is to be told."""

    def __init__(
        self,
        reading: Reading,
        known: KnownStates,
        question: Question,
        target: WatchTarget,
        mode: RankMode,
    ) -> None:
        self._reading = reading
        self._known = known
        self._name = question_digest(question.board.spec.board_id, mode, target)
        self.question = question
        self.new_season: Board | None = None
        self._begun = False
        self._resumed: bytes | None = None
        self._sent: WatchState | None = None
        self._meta: ReadMeta | None = None
        self._told_s = self._changed_s = reading.clock.monotonic_s()

    def resume(self, token: str, *, season_named: bool) -> None:
        """Goes on from an earlier watch. Raises InvalidInput for the token of another question."""
        season_number, state = self._reading.signer.watched_state(token, question=self._name)
        if season_number == self.question.season.number:
            self._resumed = state
        elif season_named:
            raise InvalidInput("resume_token", "not a token of this season")
        else:
            self.new_season = self.question.board

    def season_change(self) -> WatchMessage:
        """Tells the new season, of which nothing is known yet."""
        board = self.new_season
        if board is None:
            raise RuntimeError("the season has not changed")
        now_ms = self._reading.clock.now_ms()
        self.new_season = None
        self.question = replace(self.question, board=board, season=board.season, as_of_ms=now_ms)
        self._resumed, self._sent = None, None
        self._meta = ReadMeta(
            as_of_ms=now_ms,
            source=Source.DATABASE,
            exactness=Exactness.EXACT,
            season_id=board.season.season_id,
            epoch=0,
            entry_count=0,
        )
        return self._bare(WatchEvent.SEASON_CHANGE, self._meta)

    def told(self, message: WatchMessage) -> None:
        """Notes that the transport has taken the last message."""
        self._told_s = self._reading.clock.monotonic_s()
        if not self._begun or message.event is not WatchEvent.HEARTBEAT:
            # min_interval lies between changes, whatever was said between them.
            self._changed_s = self._told_s
        self._begun = True

    async def next(self, watcher: Watcher, heartbeat_s: float) -> WatchMessage | None:
        """The next message, when there is one; None when the season is over, and the last of it
        is told.
        """
        while True:
            watcher.wake.clear()
            match watcher.poller.ended:
                case Exception() as error:
                    # Many tasks raise the same one; each would add its own lines to it.
                    raise error.with_traceback(None)
                case Board() as board:
                    message = self._news(watcher)
                    if message is None:
                        self.new_season = board
                    return message
            message = self._message(watcher, heartbeat_s)
            if message is not None:
                return message
            watcher.pausing = self._begun and watcher.ready and self._is_behind(watcher)
            await wait(watcher.wake, self._wait_s(watcher, heartbeat_s))

    def _message(self, watcher: Watcher, heartbeat_s: float) -> WatchMessage | None:
        if watcher.failure is not None and not self._begun:
            raise watcher.failure.with_traceback(None)
        now_s = self._reading.clock.monotonic_s()
        if self._sent is None or now_s >= self._changed_s + watcher.interval_ms / 1000:
            message = self._news(watcher)
            if message is not None:
                return message
        if self._begun and now_s >= self._told_s + heartbeat_s:
            return self._bare(WatchEvent.HEARTBEAT, self._meta_now(watcher))
        return None

    def _wait_s(self, watcher: Watcher, heartbeat_s: float) -> float:
        """How long nothing is due unless the watcher is woken."""
        if not self._begun:
            # There is nothing to be due: the first read wakes in any case.
            return heartbeat_s
        due_s = self._told_s + heartbeat_s
        if watcher.pausing:
            due_s = min(due_s, self._changed_s + watcher.interval_ms / 1000)
        return due_s - self._reading.clock.monotonic_s()

    def _news(self, watcher: Watcher) -> WatchMessage | None:
        """The message that leads to the latest state; None where that is told, or not read yet."""
        state, meta = watcher.feed.state, watcher.feed.meta
        if not watcher.ready or state is None or meta is None:
            return None
        if self._sent is None:
            return self._first(watcher, state, meta)
        if self._is_behind(watcher):
            return self._shared(watcher, WatchEvent.CHANGES, state, meta)
        return None

    def _first(self, watcher: Watcher, state: WatchState, meta: ReadMeta) -> WatchMessage:
        """The first message of a season; of a resumed watch, what changed since."""
        digest, self._resumed = self._resumed, None
        if digest is None:
            return self._shared(watcher, WatchEvent.SNAPSHOT, state, meta)
        if digest == state.digest:
            self._sent, self._meta = state, meta
            return self._bare(WatchEvent.HEARTBEAT, meta)
        self._sent = self._known.get(self.question.season.number, self._name, digest)
        if self._sent is None:
            return self._bare(WatchEvent.GAP, meta)
        return self._shared(watcher, WatchEvent.CHANGES, state, meta)

    def _shared(
        self, watcher: Watcher, event: WatchEvent, state: WatchState, meta: ReadMeta
    ) -> WatchMessage:
        """A message to all who were told the same before."""
        before = self._sent if event is WatchEvent.CHANGES else None
        name = (event, NO_STATE if before is None else before.digest)
        message = watcher.feed.messages.get(name)
        if message is None:
            entries, removed = (state.entries, ()) if before is None else difference(before, state)
            message = WatchMessage(event, entries, removed, meta, self._token(state.digest))
            watcher.feed.messages[name] = message
        self._sent, self._meta = state, meta
        if watcher.poller.failing:
            message = replace(message, meta=self._aged(meta))
        return message

    def _bare(self, event: WatchEvent, meta: ReadMeta) -> WatchMessage:
        digest = NO_STATE if self._sent is None else self._sent.digest
        return WatchMessage(event, (), (), meta, self._token(digest))

    def _token(self, digest: bytes) -> str:
        return self._reading.signer.watch_state(
            season_number=self.question.season.number, question=self._name, state=digest
        )

    def _is_behind(self, watcher: Watcher) -> bool:
        state = watcher.feed.state
        return state is not None and (self._sent is None or self._sent.digest != state.digest)

    def _meta_now(self, watcher: Watcher) -> ReadMeta:
        """What may be said of the state told last: it is that of the last read, or getting old."""
        latest = watcher.feed.meta
        if latest is not None and watcher.ready and not self._is_behind(watcher):
            self._meta = latest
            if not watcher.poller.failing:
                return latest
        if self._meta is None:
            raise RuntimeError("nothing has been told yet")
        return self._aged(self._meta)

    def _aged(self, meta: ReadMeta) -> ReadMeta:
        age_ms = self._reading.clock.now_ms() - meta.as_of_ms
        return replace(meta, staleness_ms=max(age_ms, meta.staleness_ms, 0))
