"""Submissions that wait for a flush: one line a source, taken from in turn.

A line whose first submission cannot go yet is parked under what it waits for, a (board, user) or an
id that is on its way, and not looked at again until that comes back. However many calls wait for
one hot user, sealing a flush costs no more than the flush is long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

FLUSH_SIZE_MAX: Final = 512
"""Places are 10 bits of the arrival; beyond 500 rows a larger batch is no cheaper per row."""
WAVES_MAX: Final = 8
"""Submissions of one (board, user) in a flush: each one more is a statement more."""


class Waiting(Protocol):
    """What a line is made of."""

    @property
    def key(self) -> Hashable:
        """The (board, user) that must not be on its way twice."""

    @property
    def submission_id(self) -> str:
        """The id that must not be on its way twice."""

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it any more, or will when it is back."""


ItemT = TypeVar("ItemT", bound=Waiting)


@dataclass(slots=True)
class Sealed(Generic[ItemT]):
    """A flush: its submissions in order, how often each user stands in it, and its ids; and those
    that were taken out of the lines because they are gone.
    """

    items: list[ItemT] = field(default_factory=list)
    keys: dict[Hashable, int] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    gone: list[ItemT] = field(default_factory=list)


class WaitingLines(Generic[ItemT]):
    """Who waits, and who may go. Items of one source go in the order they came."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, deque[ItemT]] = {}
        self._ready: deque[Hashable] = deque()
        self._parked: dict[Hashable, deque[Hashable]] = {}
        self._in_flight: set[Hashable] = set()
        self.waiting_count = 0

    def add(self, source: Hashable, items: Iterable[ItemT]) -> None:
        """Puts items at the end of a source's line."""
        line = self._lines.get(source)
        if line is None:
            line = self._lines[source] = deque()
            self._ready.append(source)
        before = len(line)
        line.extend(items)
        self.waiting_count += len(line) - before

    def seal(self) -> Sealed[ItemT]:
        """Takes what may go now, from each source in turn; it is on its way until released."""
        sealed: Sealed[ItemT] = Sealed()
        # A line that comes up is used up, parked, or what fills the flush.
        while self._ready and len(sealed.items) < FLUSH_SIZE_MAX:
            self._take(self._ready.popleft(), sealed)
        self._in_flight.update(sealed.keys, sealed.ids)
        self.waiting_count -= len(sealed.items) + len(sealed.gone)
        return sealed

    def release(self, sealed: Sealed[ItemT]) -> None:
        """Says that a flush is back. Of those who wait for one of its users, as many become ready
        as the next flush can take; they make way for the others when they are back.
        """
        self._in_flight.difference_update(sealed.keys, sealed.ids)
        if not self._parked:
            return
        for name in (*sealed.keys, *sealed.ids):
            parked = self._parked.get(name)
            if parked is None:
                continue
            for _ in range(min(len(parked), WAVES_MAX)):
                self._ready.append(parked.popleft())
            if not parked:
                del self._parked[name]

    def _take(self, source: Hashable, sealed: Sealed[ItemT]) -> None:
        line, in_flight = self._lines[source], self._in_flight
        items, keys, ids = sealed.items, sealed.keys, sealed.ids
        while line and len(items) < FLUSH_SIZE_MAX:
            item = line[0]
            key, submission_id = item.key, item.submission_id
            if item.gone:
                sealed.gone.append(line.popleft())
                self._make_way(key, sealed)
                self._make_way(submission_id, sealed)
                continue
            # Something that comes back with a flush.
            obstacle = None
            count = keys.get(key, 0)
            if count == WAVES_MAX or key in in_flight:
                obstacle = key
            elif submission_id in ids or submission_id in in_flight:
                obstacle = submission_id
            if obstacle is not None:
                self._parked.setdefault(obstacle, deque()).append(source)
                return
            items.append(line.popleft())
            keys[key] = count + 1
            ids.add(submission_id)
        if line:
            # To the end, so that a long line does not keep the others waiting.
            self._ready.append(source)
        else:
            del self._lines[source]

    def _make_way(self, name: Hashable, sealed: Sealed[ItemT]) -> None:
        """Lets those go on who wait for what will not go now, and so not come back either."""
        if name not in self._in_flight and name not in sealed.keys and name not in sealed.ids:
            self._ready.extend(self._parked.pop(name, ()))
