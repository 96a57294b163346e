"""What became of the calls of the last seconds."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

SPAN_S: Final = 10
"""How long a call counts, to the second."""


class Rates(NamedTuple):
    """How many calls count, and which parts of them failed or were slow."""

    calls: int
    failure_rate: float
    slow_rate: float


class _Second(NamedTuple):
    second: int
    ok: int
    failed: int
    slow: int


class Window:
    """Counts of ten seconds, and of ever. Time is handed in, in whole seconds of a clock that never
    goes back.

    The counts of the running second are there to be added to, after `turn_to`: sixteen windows are
    noted in for every read.
    """

    __slots__ = ("_older", "_totals", "failed", "ok", "second", "slow")

    def __init__(self) -> None:
        self.second = 0
        self.ok = self.failed = self.slow = 0
        self._older: deque[_Second] = deque()
        self._totals = (0, 0, 0)

    def turn_to(self, second: int) -> None:
        """Makes a second the running one."""
        if second == self.second:
            return
        self._close()
        self.second = second
        while self._older and self._older[0].second <= second - SPAN_S:
            self._older.popleft()

    def clear(self) -> None:
        """Forgets what counts; what was ever counted stays."""
        self._close()
        self._older.clear()

    def rates(self, second: int) -> Rates:
        """What counts now."""
        self.turn_to(second)
        ok, failed, slow = self.ok, self.failed, self.slow
        for past in self._older:
            ok += past.ok
            failed += past.failed
            slow += past.slow
        calls = ok + failed + slow
        return Rates(calls, failed / calls, slow / calls) if calls else Rates(0, 0.0, 0.0)

    def totals(self) -> tuple[int, int, int]:
        """How many calls were ever ok, failed or slow."""
        ok, failed, slow = self._totals
        return ok + self.ok, failed + self.failed, slow + self.slow

    def _close(self) -> None:
        self._totals = self.totals()
        if self.ok or self.failed or self.slow:
            self._older.append(_Second(self.second, self.ok, self.failed, self.slow))
        self.ok = self.failed = self.slow = 0
