"""Natural batching of reads: what is asked for together is read together.

What many callers ask of each shard in one call costs little more than what one asks: the call, not
the lookup, is the price, and so it is with the way there. Who asks while the event loop is busy
goes with the others who do, as do those who ask right after a crowd. While a crowd is on its way,
the next one gathers, and goes beside it once it is as large; a lone question goes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from math import inf
from typing import Final, Generic, TypeAlias, TypeVar

from core.errors import ShardsMissing
from core.lull import Lull
from core.pace import Pace

_AWAY_MAX: Final = 2
"""Crowds of a kind on their way: while one counts, the next looks for its users."""
_WORTH_GOING: Final = 64
"""So many go beside any other crowd."""
_REST_MAX_S: Final = 0.015
"""How long those who ask right after a crowd wait for others at most; with more they only wait."""
_CROWD_MAX: Final = 128
"""Whom a crowd asks for, if nothing else is said; a call holds up its node."""

_KINDS_MAX: Final = 256
"""Kinds that are remembered though nobody asks, because a crowd of theirs may have gone lately."""

_Item = TypeVar("_Item", bound=Hashable)
_Answer = TypeVar("_Answer")
ReadTogether: TypeAlias = Callable[[Sequence[_Item]], Awaitable[_Answer]]
"""Answers for some items at once."""


@dataclass(slots=True, eq=False)
class _Crowd(Generic[_Item, _Answer]):
    """Those who ask together, and the call of theirs that has the most time."""

    ask: ReadTogether[_Item, _Answer]
    items: dict[_Item, None] = field(default_factory=dict)
    waiting: list[asyncio.Future[_Answer]] = field(default_factory=list)
    """One for each, so that who gives up leaves the others theirs."""
    context: Context | None = None
    end_s: float = -inf


class Gathering(Generic[_Item, _Answer]):
    """Questions of one kind, which one call answers together."""

    def __init__(self, deadline_s: Callable[[], float | None], crowd_max: int) -> None:
        self._deadline_s = deadline_s
        self._crowd_max = crowd_max
        self._crowd: _Crowd[_Item, _Answer] | None = None
        self._pace = Pace(_REST_MAX_S)
        self._lull = Lull(self._go, rest_s=self._pace.rest_s, anew=True)
        self._away: dict[asyncio.Task[None], int] = {}

    @property
    def idle(self) -> bool:
        """Whether nobody gathers and nobody is on the way."""
        return self._crowd is None and not self._away

    async def answer(self, item: _Item, read: ReadTogether[_Item, _Answer]) -> _Answer:
        """What is said of this item, among others, by the `read` of one of those who ask. Raises
        ShardsMissing.
        """
        return await self._join(item, read)

    def _join(self, item: _Item, read: ReadTogether[_Item, _Answer]) -> asyncio.Future[_Answer]:
        crowd = self._crowd
        if crowd is None:
            crowd = self._crowd = _Crowd(read)
        self._lull.come()
        crowd.items[item] = None
        waiting: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        crowd.waiting.append(waiting)
        end_s = self._deadline_s()
        if end_s is None:
            end_s = inf
        if crowd.context is None or end_s > crowd.end_s:
            crowd.end_s, crowd.context = end_s, copy_context()
        if len(crowd.items) >= self._crowd_max:
            self._send(crowd)
        return waiting

    def _send(self, crowd: _Crowd[_Item, _Answer]) -> None:
        """Sends the crowd that gathers, unless it has gone already."""
        if crowd is not self._crowd:
            return
        self._crowd = None
        task = asyncio.get_running_loop().create_task(self._bring(crowd), context=crowd.context)
        self._away[task] = self._lull.went()
        task.add_done_callback(self._back)

    def _back(self, task: asyncio.Task[None]) -> None:
        self._lull.answered(self._away.pop(task))

    def _go(self) -> None:
        crowd, away = self._crowd, sum(self._away.values())
        if crowd is None or self._lull.waiting or len(self._away) >= _AWAY_MAX:
            return
        if len(crowd.items) >= min(away, _WORTH_GOING):
            self._send(crowd)

    async def _bring(self, crowd: _Crowd[_Item, _Answer]) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            answer = await crowd.ask(list(crowd.items))
        except ShardsMissing as error:
            for waiting in crowd.waiting:
                # One for each: who raises it adds where it went.
                own = type(error)(error.shards, retry_after_ms=error.retry_after_ms)
                own.__cause__ = error
                _fail(waiting, own)
        except Exception as error:  # noqa: BLE001 - a bug, for whoever asked
            for waiting in crowd.waiting:
                _fail(waiting, error)
        except asyncio.CancelledError:
            for waiting in crowd.waiting:
                waiting.cancel()
            raise
        else:
            for waiting in crowd.waiting:
                if not waiting.done():
                    waiting.set_result(answer)
            self._pace.note(loop.time() - began_s)
            self._lull.rest_s = self._pace.rest_s


def _fail(waiting: asyncio.Future[_Answer], error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)


class SharedReads(Generic[_Item, _Answer]):
    """Brings those together whose questions are of one kind. `deadline_s` tells when the time of
    the caller is over; a crowd has the time of its member that has most. `name`: what is read.
    """

    def __init__(
        self,
        deadline_s: Callable[[], float | None],
        *,
        name: str = "read",
        crowd_max: int = _CROWD_MAX,
    ) -> None:
        self.name = name
        self._deadline_s = deadline_s
        self._crowd_max = crowd_max
        self._gatherings: dict[Hashable, Gathering[_Item, _Answer]] = {}

    async def answer(
        self, kind: Hashable, item: _Item, read: ReadTogether[_Item, _Answer]
    ) -> _Answer:
        """What `read` says of this item, among others of its `kind`. Raises ShardsMissing where it
        did: the trouble may be of another's shard.
        """
        gathering = self._gatherings.get(kind)
        if gathering is None:
            if len(self._gatherings) >= _KINDS_MAX:
                self._gatherings = {k: one for k, one in self._gatherings.items() if not one.idle}
            gathering = self._gatherings[kind] = Gathering(self._deadline_s, self._crowd_max)
        return await gathering.answer(item, read)
