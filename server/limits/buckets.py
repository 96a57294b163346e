"""Token buckets in memory that the workers of a machine share.

A bucket is one number: the time at which it will be full again, on the clock of time.monotonic,
which all processes of a machine have in common. Taking tokens moves that time on; a time that has
come says that the bucket is full. So nothing has to be filled, a bucket that nobody used for a
while is as good as none, and its place may be given away.

Two workers that take from one bucket in the same 100 ns may count one of the two only. That costs a
token, and a lock in the path of every call would cost more.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Final

_SETS: Final = 8192
_WAYS: Final = 8
_HEADER_WORDS: Final = 2
_WORD_BYTES: Final = 8
_PLACE_WORDS: Final = 2
_BYTES: Final = _WORD_BYTES * (_HEADER_WORDS + _SETS * _WAYS * _PLACE_WORDS)
"""65,536 buckets in 1 MiB: a bucket has a place only while it is less than full."""

_ROUNDING_S: Final = 1e-7
"""By how much sums of times may be wrong."""

_log = logging.getLogger(__name__)


class SharedTimes:
    """The memory: a word for the last time anything was taken, then for each bucket its tag and the
    time at which it is full. A bucket lies in one of the places of a set; a new one takes that of
    the fullest.
    """

    def __init__(self, memory: mmap.mmap, clock: Callable[[], float] = time.monotonic) -> None:
        view = memoryview(memory)
        self.clock = clock
        self.times = view.cast("d")
        self.tags = view.cast("Q")
        if self.times[0] > clock():
            # The machine was started anew, and its clock with it.
            view[:] = bytes(_BYTES)

    @classmethod
    def open(cls, path: Path | None) -> SharedTimes:
        """The memory of a file, which is made where it is missing; without one, or where the file
        cannot be had, this process's own.
        """
        if path is None:
            return cls(mmap.mmap(-1, _BYTES))
        try:
            return cls(_mapped(path))
        except OSError as error:
            _log.error("limits are kept by each worker alone", extra={"why": error.strerror})
            return cls(mmap.mmap(-1, _BYTES))

    def place_of(self, tag: int) -> int:
        """The first word of a bucket's place, found or given."""
        first = _HEADER_WORDS + tag % _SETS * _WAYS * _PLACE_WORDS
        places = range(first, first + _WAYS * _PLACE_WORDS, _PLACE_WORDS)
        for place in places:
            if self.tags[place] == tag:
                return place
        fullest = min(places, key=lambda place: self.times[place + 1])
        self.times[fullest + 1] = 0.0
        self.tags[fullest] = tag
        return fullest


class Bucket:
    """The tokens of one caller for one kind of method. It holds `burst` of them at most, at least
    one, and gets `rate_per_s`.

    While it has a token a call may begin, whatever it turns out to cost: what it takes beyond the
    last token is owed, and the next call waits for it. So no call is too big to be ever let in, and
    none has to be decoded to be refused.
    """

    def __init__(self, shared: SharedTimes, name: str, *, rate_per_s: float, burst: float) -> None:
        self._times = shared.times
        self._tags = shared.tags
        self._place_of = shared.place_of
        self._clock = shared.clock
        self._tag = int.from_bytes(blake2b(name.encode(), digest_size=_WORD_BYTES).digest()) or 1
        self._place = shared.place_of(self._tag)
        self._token_s = 1 / rate_per_s
        self._slack_s = (max(burst, 1.0) - 1) / rate_per_s + _ROUNDING_S
        """How far from full a bucket with one token is."""

    def take(self) -> float:
        """Takes one token and returns 0; without one, in how many seconds there is one."""
        place = self._place
        if self._tags[place] != self._tag:
            place = self._place = self._place_of(self._tag)
        now_s = self._clock()
        full_s = self._times[place + 1]
        full_s = max(full_s, now_s)
        wait_s = full_s - now_s - self._slack_s
        if wait_s > 0:
            return wait_s
        self._times[place + 1] = full_s + self._token_s
        self._times[0] = now_s
        return 0.0

    def wait_s(self) -> float:
        """In how many seconds it has a token; 0 where it has one."""
        place = self._place = self._place_of(self._tag)
        return max(0.0, self._times[place + 1] - self._clock() - self._slack_s)

    def owe(self, count: int) -> None:
        """Takes as many tokens, whether it has them or not."""
        place = self._place = self._place_of(self._tag)
        now_s = self._clock()
        self._times[place + 1] = max(self._times[place + 1], now_s) + count * self._token_s
        self._times[0] = now_s


def _mapped(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        # Workers start together: none may find what another has not written yet.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.fstat(descriptor).st_size != _BYTES:
                # Written and not only made as long: a disk that is full shall say so now.
                file.truncate(0)
                file.write(bytes(_BYTES))
            return mmap.mmap(descriptor, _BYTES)
        finally:
            # By itself it would end with the memory, which has a descriptor of its own.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
