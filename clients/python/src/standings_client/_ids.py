"""Submission ids: UUIDv7, in the order they were made.

Source: RFC 9562, sections 5.7 and 6.2 (method 2, monotonic random). Python has none before 3.14.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Final
from uuid import UUID

# All that the time, the version and the variant leave of 128 bits.
_TAIL_BITS: Final = 74
# The part of the tail that stands below the variant.
_LOW_BITS: Final = 62
# Two ids of one millisecond lie this far apart at most, so that the second cannot be guessed.
_STEP_BITS: Final = 32


class SubmissionIds:
    """Makes ids, each greater than the one before, from any thread.

    The order is broken only by `correct`, which says that the clock was wrong.
    """

    def __init__(self, wall_ms: Callable[[], int], random_bits: Callable[[int], int]) -> None:
        self._wall_ms = wall_ms
        self._random_bits = random_bits
        self._lock = Lock()
        self._offset_ms = 0
        self._time_ms = -1
        self._tail = 0
        self.epoch = 0
        """How often the clock was corrected."""

    def mint(self) -> str:
        """A new id in canonical text."""
        with self._lock:
            self._advance()
            time_ms, tail = self._time_ms, self._tail
        high, low = tail >> _LOW_BITS, tail & ((1 << _LOW_BITS) - 1)
        return str(UUID(int=time_ms << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low))

    def correct(self, server_time_ms: int) -> None:
        """From now on, date ids by the server's clock instead of this machine's."""
        with self._lock:
            self._offset_ms = server_time_ms - self._wall_ms()
            # Else the order would keep the next ids in the future.
            self._time_ms = -1
            self.epoch += 1

    def _advance(self) -> None:
        now_ms = self._wall_ms() + self._offset_ms
        if now_ms > self._time_ms:
            self._time_ms, self._tail = now_ms, self._random_bits(_TAIL_BITS)
            return
        self._tail += 1 + self._random_bits(_STEP_BITS)
        if self._tail >> _TAIL_BITS:
            self._time_ms, self._tail = self._time_ms + 1, self._random_bits(_TAIL_BITS)
