"""What this worker itself has written: no answer that it keeps may be older than that.

A worker that acknowledges a submission must not show the state before it afterwards, although its
caches know nothing of submissions. So each answer remembers a mark, taken before its read began,
and is given again only as long as nothing was noted since that could change it.

Why a write is noted after its apply and before its caller is answered:

- An answer that is given after the acknowledgement of a write W is checked after the note of W. If
  its mark is older than the note, W is seen and the answer is void.
- If its mark is as new as the note, its read began after the note, and so after the apply: it met
  what W made of the index.
- Had the note come before the apply, a read between the two would have a mark that covers W and an
  answer without it.
- Nobody was told of W before the note, so what is given until then owes it to nobody.

Where an apply failed, a read of the index lacks W as well until the healer has brought it. The note
voids what was kept before, and nothing that is read is kept until that can no longer be: for some
seconds after a miss no answer of the season that asked the index for W's shard, and later none that
says of itself that the index has not caught up. So a cache is behind no longer than a new read is.
What the primary says in place of the index lacks nothing, so that an answer is kept where it was
asked for all such shards; and by one read, or an answer could be of both.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, Generic, NamedTuple, TypeVar

from core.ordering import RESULT_BYTES, Item, Ordering, decode_item
from core.types import (
    LAG_MS_MAX,
    Board,
    Exactness,
    IndexChange,
    Outcome,
    ReadMeta,
    Recorded,
    Source,
)

_SEASONS_MAX: Final = 1_024
"""Seasons whose writes are known; the one that was written to longest ago goes first."""
_STEPS_MAX: Final = 1_024
"""Steps kept of a season, about 100 bytes each. Writes in any but falling order need some ten."""
_REVISION: Final = slice(32, 38)
"""Where an item has its revision."""
_STATE: Final = 38
_NOT_LIVE: Final = 0x40
"""Where an item has its state, in the two highest bits; a byte as high is no live entry's."""
_UNTOLD_S: Final = LAG_MS_MAX / 1000 + 1.0
"""So long the index may lack a write before an answer has to say so; a second for the clocks of
two workers."""
_ERROR_MS: Final = 0.0005
_NONE: Final[frozenset[int]] = frozenset()
EVERY_RESULT: Final = b"\xff" * RESULT_BYTES
"""No result is greater: for answers that any write may change."""

AnswerT = TypeVar("AnswerT")


class Mark(NamedTuple):
    """A point in the sequence of this worker's writes. `added`: entries added to the season.
    `lacking`: the shards of which the index may lack one of them without saying so.
    """

    generation: int
    added: int
    lacking: frozenset[int] = frozenset()


@dataclass(slots=True)
class _Season:
    """The writes to one season, as steps: (generation, result) with both strictly growing. A write
    that a later one stands before can decide nothing any more and is dropped.

    Of marks before `known_since` it cannot tell what was touched; all before `void_since` is void.
    `added` counts the new entries since the generation `born`.
    """

    born: int
    known_since: int
    void_since: int
    added: int = 0
    generations: list[int] = field(default_factory=list)
    results: list[bytes] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The generation of the last write."""
        return self.generations[-1] if self.generations else self.known_since

    def note(self, generation: int, touched: bytes) -> None:
        """Adds a step. Amortized O(1)."""
        while self.results and self.results[-1] >= touched:
            self.results.pop()
            self.generations.pop()
        self.results.append(touched)
        self.generations.append(generation)
        if len(self.results) > _STEPS_MAX:
            # The oldest half, at once, so that it stays cheap.
            middle = len(self.results) // 2
            self.known_since = self.generations[middle - 1]
            del self.results[:middle], self.generations[:middle]


class OwnWrites:
    """The writes of this worker. What it has forgotten counts as touched.

    It also keeps the newest entries of the `users_max` users written last, as the index has them
    or will have them.
    """

    def __init__(
        self, *, users_max: int = 1_000, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._users_max = users_max
        self._monotonic_s = monotonic_s
        # When the shards of seasons last missed an apply; seasons in the order of their last one.
        self._missed_s: dict[int, dict[int, float]] = {}
        self._generation = 0
        self._forgotten = 0
        # Both in the order of their last write.
        self._seasons: dict[int, _Season] = {}
        self._items: dict[tuple[int, int], bytes] = {}

    def mark(self, season_number: int) -> Mark:
        """The writes so far. To be taken before a read begins."""
        season = self._seasons.get(season_number)
        added = season.added if season else 0
        return Mark(self._generation, added, self._lacking(season_number))

    def wrote(self, season_number: int, touched: bytes, added: int) -> None:
        """Notes a write: after its apply, whatever came of that, and before its caller is answered.

        `touched` is the smaller of the results before and after it, 16 bytes of the key order;
        `added` is 1 for a new entry and -1 for one that is gone.
        """
        self._generation += 1
        season = self._season(season_number)
        season.note(self._generation, touched)
        season.added += added

    def flushed(
        self,
        writes: Iterable[tuple[Board, Recorded]],
        changes: Iterable[IndexChange],
        missed: Collection[tuple[int, int]] = (),
    ) -> None:
        """Notes all that a flush recorded, once for each season. See core.batching.WriteObserver.

        A duplicate counts as a write: what the first one did may be in no cached answer yet. A
        hidden user's new entry is none that anybody counts.
        """
        unseen = self._keep(changes)
        touched: dict[int, _Touched] = {}
        for board, recorded in writes:
            if not recorded.touches_index:
                continue
            entry, previous = recorded.entry, recorded.previous
            number = recorded.season.number
            season = touched.get(number)
            if season is None:
                season = touched[number] = _Touched(Ordering.of(board.spec))
            if entry is None:
                season.all = True
                continue
            season.results.append((entry.score, entry.subscore))
            if previous is not None:
                season.results.append((previous.score, previous.subscore))
            elif recorded.outcome is Outcome.APPLIED and (number, entry.user_id) not in unseen:
                season.added += 1
        self.missed(missed)
        for number, season in touched.items():
            self.wrote(number, season.first(), season.added)

    def missed(self, shards: Collection[tuple[int, int]]) -> None:
        """Notes that the index has not taken a write to these: season number and shard."""
        now_s = self._monotonic_s()
        for season_number, shard in shards:
            season = self._missed_s.pop(season_number, {})
            season[shard] = now_s
            self._missed_s[season_number] = season
        while self._missed_s:
            oldest = next(iter(self._missed_s))
            if now_s - max(self._missed_s[oldest].values()) < _UNTOLD_S:
                break
            del self._missed_s[oldest]

    def _lacking(self, season_number: int) -> frozenset[int]:
        missed_s = self._missed_s.get(season_number)
        if missed_s is None:
            return _NONE
        since_s = self._monotonic_s() - _UNTOLD_S
        return frozenset(shard for shard, last_s in missed_s.items() if last_s > since_s)

    def forget(self, season_number: int) -> None:
        """Voids everything that is kept of a season, also as a last resort."""
        self._generation += 1
        season = self._season(season_number)
        season.known_since = season.void_since = self._generation
        season.results.clear()
        season.generations.clear()
        for key in [key for key in self._items if key[0] == season_number]:
            del self._items[key]

    def untouched_since(self, season_number: int, mark: Mark, result: bytes) -> bool:
        """Whether no write since a mark touched `result` or one before it. O(log n)."""
        season = self._seasons.get(season_number)
        if season is None:
            return mark.generation >= self._forgotten
        if mark.generation < season.known_since:
            return False
        step = bisect_right(season.generations, mark.generation)
        # Each later step has a greater result, so this one is the smallest since the mark.
        return step == len(season.results) or season.results[step] > result

    def voided_since(self, season_number: int, mark: Mark) -> bool:
        """Whether nothing from before a mark may be shown, not even with its age."""
        season = self._seasons.get(season_number)
        return mark.generation < (season.void_since if season else self._forgotten)

    def added_since(self, season_number: int, mark: Mark) -> int:
        """How many entries this worker added since a mark, less those it removed; 0 if void."""
        season = self._seasons.get(season_number)
        if season is None or mark.generation < season.void_since:
            return 0
        # A mark from before this count began may be of an earlier one, since forgotten.
        return season.added - (mark.added if mark.generation >= season.born else 0)

    def entry(self, season_number: int, user_id: int) -> Item | None:
        """A user's entry by this worker's last write to it, if that is remembered. Another
        worker's may be newer.
        """
        item = self._items.get((season_number, user_id))
        return None if item is None else decode_item(item)

    def _season(self, season_number: int) -> _Season:
        season = self._seasons.pop(season_number, None)
        if season is None:
            if len(self._seasons) >= _SEASONS_MAX:
                # It was written to before all others: nothing newer is forgotten with it.
                self._forgotten = self._seasons.pop(next(iter(self._seasons))).last
            season = _Season(self._generation, self._forgotten, self._forgotten)
        self._seasons[season_number] = season
        return season

    def _keep(self, changes: Iterable[IndexChange]) -> Collection[tuple[int, int]]:
        """Keeps the newest entries; returns the season and user of those that are not live."""
        items, unseen = self._items, set()
        for change in changes:
            item = change.item
            key = (change.season_number, int.from_bytes(item[:8], "big"))
            if item[_STATE] >= _NOT_LIVE:
                unseen.add(key)
            known = items.pop(key, None)
            if known is not None and known[_REVISION] > item[_REVISION]:
                # Flushes of one user are recorded in order, but may end in another.
                item = known
            items[key] = item
        for key in list(islice(items, max(0, len(items) - self._users_max))):
            del items[key]
        return unseen


@dataclass(slots=True)
class _Touched:
    """The results that a flush moved entries of a season from or to; `all`: also some that nobody
    knows. `added`: how many entries are new.
    """

    order: Ordering
    results: list[tuple[int, int]] = field(default_factory=list)
    added: int = 0
    all: bool = False

    def first(self) -> bytes:
        """The smallest of them."""
        return b"" if self.all else self.order.first_result(self.results)


def age_ms(began_s: float, now_s: float) -> int:
    """The time between two moments of a clock, rounded up; at least 1."""
    # What is less than half a microsecond is the error of the floats.
    return max(1, math.ceil((now_s - began_s) * 1000 - _ERROR_MS))


@dataclass(slots=True)
class KeptAnswer(Generic[AnswerT]):
    """An answer that may be given again while nothing at or before `result` was touched.

    `mark` and `began_s`, on the monotonic clock, are from before its read.
    """

    answer: AnswerT
    meta: ReadMeta
    season_number: int
    result: bytes
    mark: Mark
    began_s: float
    _told: ReadMeta | None = field(default=None, compare=False)
    """What it said of itself the last time: within a ms it says the same."""

    def age_ms(self, now_s: float) -> int:
        """How long ago its read began."""
        return age_ms(self.began_s, now_s)

    def staleness_ms(self, now_s: float) -> int:
        """How old it may be: its age, and what the index was behind then."""
        return self.age_ms(now_s) + self.meta.staleness_ms

    def suits(self, max_staleness_ms: int | None, now_s: float) -> bool:
        """Whether a caller takes it with its age."""
        return max_staleness_ms is None or self.staleness_ms(now_s) <= max_staleness_ms

    def holds(self, own_writes: OwnWrites) -> bool:
        """Whether it shows all that this worker has acknowledged."""
        return own_writes.untouched_since(self.season_number, self.mark, self.result)

    def is_last_resort(self, error_s: float, now_s: float, own_writes: OwnWrites) -> bool:
        """Whether it may be given, with its age, while nothing better can be had: it may lack some
        writes, but must not show what was taken off the board.
        """
        young = self.age_ms(now_s) <= error_s * 1000
        return young and not own_writes.voided_since(self.season_number, self.mark)

    def newer_than(self, other: KeptAnswer[AnswerT]) -> bool:
        """Whether its read began later; also where both began at once."""
        return (self.mark.generation, self.began_s) >= (other.mark.generation, other.began_s)

    def may_be_kept(self, own_writes: OwnWrites, *, elsewhere: Collection[int] = ()) -> bool:
        """Whether it can be given again at all: not where it may lack a write of this worker that
        no later one voids, not where it is known roughly only, and not where an entry was added
        while it was read, because nobody can tell whether its `entry_count` has that one.

        `elsewhere`: the shards of which the index told nothing of it. If it has no age, the
        primary did, which lacks nothing.
        """
        return (
            self.mark.lacking.issubset(elsewhere)
            and self.meta.staleness_ms == 0
            and self.meta.exactness is Exactness.EXACT
            and own_writes.added_since(self.season_number, self.mark) == 0
        )

    def meta_when(self, now_s: float) -> ReadMeta:
        """What it says of itself now."""
        return replace(self.meta, source=Source.CACHE, staleness_ms=self.staleness_ms(now_s))

    def meta_with(self, own_writes: OwnWrites, now_s: float) -> ReadMeta:
        """The same, its `entry_count` with the entries that this worker has added since."""
        count = self.meta.entry_count + own_writes.added_since(self.season_number, self.mark)
        staleness_ms = self.staleness_ms(now_s)
        told = self._told
        if told is None or told.staleness_ms != staleness_ms or told.entry_count != count:
            told = self._told = replace(
                self.meta, source=Source.CACHE, staleness_ms=staleness_ms, entry_count=count
            )
        return told
