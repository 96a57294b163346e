"""When each entry can have stood where, and which ranks that leaves possible.

A version of an entry cannot be seen before the first attempt to submit it began, and must be seen
by what begins after it was acknowledged. In between anything goes. Scores of a run only ever
rise, so the worst an entry can stand at is its last version that must be seen, and the best its
last one that can be.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

NEVER: Final = inf
VIEWS: Final = ("indexed", "recorded", "possible")


@dataclass(slots=True)
class Version:
    """An entry between two changes. `possible_s`: nobody can see it earlier; `recorded_s`: whoever
    asks the ledger after that sees it or a later one; `indexed_s`: so does who asks the index.
    """

    key: bytes
    score: int
    possible_s: float
    recorded_s: float = NEVER
    indexed_s: float = NEVER


class Tally:
    """How many of some keys are below another one; a Fenwick tree over their places."""

    def __init__(self, keys: Sequence[bytes], present: Iterable[bytes]) -> None:
        self._keys = keys
        self._tree = [0] * (len(keys) + 1)
        for key in present:
            self._tree[bisect_left(keys, key) + 1] += 1
        for place in range(1, len(self._tree)):
            above = place + (place & -place)
            if above < len(self._tree):
                self._tree[above] += self._tree[place]

    def add(self, key: bytes, change: int) -> None:
        """A key comes (1) or goes (-1)."""
        place = bisect_left(self._keys, key) + 1
        while place < len(self._tree):
            self._tree[place] += change
            place += place & -place

    def below(self, key: bytes) -> int:
        """How many stand before a key."""
        place, count = bisect_left(self._keys, key), 0
        while place:
            count += self._tree[place]
            place -= place & -place
        return count


@dataclass(frozen=True, slots=True)
class Ask:
    """How many stand before `key` at `time_s`: by what must be seen of `view`, or by what can."""

    time_s: float
    key: bytes
    view: str


class Timeline:
    """The versions of every user of a board, oldest first."""

    def __init__(self, versions: Mapping[int, Sequence[Version]]) -> None:
        self._versions = versions
        self._times = {
            view: {
                user: _from([getattr(version, f"{view}_s") for version in own])
                for user, own in versions.items()
                if len(own) > 1
            }
            for view in VIEWS
        }

    def version(self, user_id: int, score: int) -> Version | None:
        """The version with this score; None if the user never had it."""
        own = self._versions.get(user_id, ())
        place = bisect_left(own, score, key=lambda version: version.score)
        return own[place] if place < len(own) and own[place].score == score else None

    def least(self, user_id: int, time_s: float, view: str) -> Version | None:
        """The oldest version that an answer may show that has all from before `time_s`."""
        own = self._versions.get(user_id, ())
        times = self._times[view].get(user_id)
        if times is None:
            return own[0] if own and getattr(own[0], f"{view}_s") <= time_s else None
        place = bisect_right(times, time_s) - 1
        return own[place] if place >= 0 else None

    def counts(self, asked: Sequence[Ask]) -> Sequence[int]:
        """The answers to questions, in their order."""
        answers = [0] * len(asked)
        for view in VIEWS:
            own = [place for place, ask in enumerate(asked) if ask.view == view]
            for place, count in zip(own, self._sweep(view, [asked[p] for p in own]), strict=True):
                answers[place] = count
        return answers

    def _sweep(self, view: str, asked: Sequence[Ask]) -> Sequence[int]:
        if not asked:
            return []
        steps: list[tuple[float, bytes | None, bytes]] = []
        present = []
        for user, own in self._versions.items():
            times = self._times[view].get(user) or [getattr(own[0], f"{view}_s")]
            old = None
            for time_s, version in zip(times, own, strict=True):
                if -NEVER < time_s < NEVER:
                    steps.append((time_s, old, version.key))
                if time_s < NEVER:
                    old = version.key
            present += [v.key for t, v in zip(times, own, strict=True) if t == -NEVER][-1:]
        steps.sort(key=lambda step: step[0])
        tally = Tally(self._keys(), present)
        answers = [0] * len(asked)
        at = 0
        for place in sorted(range(len(asked)), key=lambda number: asked[number].time_s):
            while at < len(steps) and steps[at][0] <= asked[place].time_s:
                _, gone, come = steps[at]
                if gone is not None:
                    tally.add(gone, -1)
                tally.add(come, 1)
                at += 1
            answers[place] = tally.below(asked[place].key)
        return answers

    def _keys(self) -> Sequence[bytes]:
        return sorted(version.key for own in self._versions.values() for version in own)


def _from(times: Sequence[float]) -> list[float]:
    """For each version since when it or a later one holds."""
    least = NEVER
    latest = []
    for time_s in reversed(times):
        least = min(least, time_s)
        latest.append(least)
    return latest[::-1]
