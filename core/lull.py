"""When what comes together has come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import Final

_QUIET_TURNS: Final = 2
"""Turns of the event loop that bring nothing. Not one: a transport may need a turn to bring the
next of many calls that are there already."""
_BUSY_TURN_S: Final = 0.00005
"""A turn that takes longer did something else: the loop is not idle, and who waits loses nothing,
because the work for others would be done first anyway."""
_PATIENCE_S: Final = 0.004
"""Who came first waits no longer, however many follow and however busy the loop is."""
_CROWD_MIN: Final = 8
"""So many who went together are a crowd. Fewer are not worth that others wait."""
_LATELY_S: Final = 0.05
"""How long after a crowd went more are expected. Who comes alone after that waits for nobody."""
_IN_VAIN_MAX: Final = 3
"""So many crowds in a row that did not come again in time are no slow moment: callers that do not
wait for answers before they send more."""


class Lull:
    """Calls back once for all who come while the event loop is busy.

    Who comes alone waits for two turns of an idle loop, some ten microseconds. On a loop that has
    more to do than it can, those who come within 4 ms go together, and what their going costs is
    paid once.

    Who comes right after a crowd waits for `rest_s` at most, however idle the loop is: it has idle
    moments also while the machine is busy, and callers are on their way to it then. When most of
    those who were answered last are there again, nobody waits any longer. `anew`: the time begins
    anew when a crowd is answered, as long as crowds come again in it, and is over for all that come
    later.
    """

    def __init__(self, act: Callable[[], object], *, rest_s: float, anew: bool = False) -> None:
        self._act = act
        self.rest_s = rest_s
        """May be changed at any time."""
        self._anew = anew
        self._resting_until_s = -inf
        self._looking = False
        self._timer: asyncio.TimerHandle | None = None
        self._in_vain = 0
        """How often in a row the time was over before most were there."""
        self._came = False
        self._count = 0
        self._enough = inf
        self._quiet = 0
        self._first_s = 0.0
        self._last_s = 0.0

    @property
    def waiting(self) -> bool:
        """Whether somebody has come whom it has not called back for."""
        return self._looking

    def come(self) -> None:
        """Somebody is there."""
        self._count += 1
        self._begin()
        if self._timer is not None and self._count >= self._enough:
            self._timer.cancel()
            self._timer = None
            self._in_vain = 0
            # Who comes in the same turn goes as well.
            asyncio.get_running_loop().call_soon(self._end)

    def answered(self, count: int) -> None:
        """So many of those who went are answered, and may be followed by others at once, with
        whom those go that have come meanwhile. A crowd that is waited for anew gets all the time
        from now on, unless the last ones did not come again in theirs.
        """
        self._enough = self._count + _most_of(count)
        anew = self._anew and count >= _CROWD_MIN
        if anew:
            self._resting_until_s = time.monotonic() + self.rest_s
        if self._timer is not None and anew and self._in_vain < _IN_VAIN_MAX:
            self._timer.cancel()
            self._rest(self.rest_s)
        elif self._count:
            self._begin()

    def went(self) -> int:
        """All who have come went together; how many those were."""
        count, self._count = self._count, 0
        self._resting_until_s = time.monotonic() + _LATELY_S if count >= _CROWD_MIN else -inf
        self._enough = inf
        return count

    def _begin(self) -> None:
        self._came = True
        if self._looking:
            return
        self._looking = True
        self._quiet = 0
        self._first_s = self._last_s = time.monotonic()
        left_s = min(self._resting_until_s - self._first_s, self.rest_s)
        if left_s > 0:
            self._rest(left_s)
        else:
            asyncio.get_running_loop().call_soon(self._look)

    def _rest(self, time_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(time_s, self._rested)

    def _rested(self) -> None:
        self._in_vain += 1
        self._end()

    def _look(self) -> None:
        now_s = time.monotonic()
        busy = self._came or now_s - self._last_s > _BUSY_TURN_S
        self._quiet = 0 if busy else self._quiet + 1
        self._came = False
        self._last_s = now_s
        if self._quiet < _QUIET_TURNS and now_s - self._first_s < _PATIENCE_S:
            asyncio.get_running_loop().call_soon(self._look)
            return
        self._end()

    def _end(self) -> None:
        self._looking = False
        self._timer = None
        self._act()


def _most_of(count: int) -> int:
    """How many of those who were answered are waited for: others may not come again, or late. All
    but one of sixteen; of eight or more not the last one.
    """
    return count - max(count // 16, min(count // 8, 1))
