"""Natural batching of reads: what is asked for together is read together.

What many callers ask of each shard in one call costs little more than what one asks: the call, not
the lookup, is the price, and so it is with the way there. Who asks while the event loop is busy
goes with the others who do, as do those who ask right after a crowd. While a crowd is on its way,
the next one gathers; a lone question goes at once.
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

_AWAY_MAX: Final = 2
"""Crowds of a kind on their way: while one counts, the next looks for its users."""
_REST_S: Final = 0.003
"""How long those who ask right after a crowd wait for others."""
_CROWD_MAX: Final = 128
"""Whom a crowd asks for, if nothing else is said; a call holds up its node."""

_Item = TypeVar("_Item", bound=Hashable)
_Answer = TypeVar("_Answer")
ReadTogether: TypeAlias = Callable[[Sequence[_Item]], Awaitable[_Answer]]
"""Answers for some items at once."""


@dataclass(slots=True, eq=False)
class _Crowd(Generic[_Item, _Answer]):
    """Those who ask together, and the call of theirs that has the most time."""

    answer: asyncio.Future[_Answer | ShardsMissing]
    items: dict[_Item, None] = field(default_factory=dict)
    context: Context | None = None
    end_s: float = -inf


class Gathering(Generic[_Item, _Answer]):
    """Questions of one kind, which one call answers together."""

    def __init__(
        self,
        ask: ReadTogether[_Item, _Answer],
        deadline_s: Callable[[], float | None],
        crowd_max: int,
    ) -> None:
        self._ask = ask
        self._deadline_s = deadline_s
        self._crowd_max = crowd_max
        self._crowd: _Crowd[_Item, _Answer] | None = None
        self._lull = Lull(self._go, rest_s=_REST_S)
        self._away: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Whether nobody gathers and nobody is on the way."""
        return self._crowd is None and not self._away

    async def answer(self, item: _Item) -> _Answer:
        """What is said of this item, among others. Raises ShardsMissing."""
        crowd = self._join(item)
        # Who gives up leaves the others theirs.
        answer = await asyncio.shield(crowd.answer)
        if isinstance(answer, ShardsMissing):
            # One for each: who raises it adds where it went.
            raise type(answer)(answer.shards, retry_after_ms=answer.retry_after_ms) from answer
        return answer

    def _join(self, item: _Item) -> _Crowd[_Item, _Answer]:
        crowd = self._crowd
        if crowd is None:
            crowd = self._crowd = _Crowd(asyncio.get_running_loop().create_future())
        self._lull.come()
        crowd.items[item] = None
        end_s = self._deadline_s()
        if end_s is None:
            end_s = inf
        if crowd.context is None or end_s > crowd.end_s:
            crowd.end_s, crowd.context = end_s, copy_context()
        if len(crowd.items) >= self._crowd_max:
            self._send(crowd)
        return crowd

    def _send(self, crowd: _Crowd[_Item, _Answer]) -> None:
        """Sends the crowd that gathers, unless it has gone already."""
        if crowd is not self._crowd:
            return
        self._crowd = None
        self._lull.went(len(crowd.items))
        task = asyncio.get_running_loop().create_task(self._bring(crowd), context=crowd.context)
        self._away.add(task)
        task.add_done_callback(self._back)

    def _back(self, task: asyncio.Task[None]) -> None:
        self._away.discard(task)
        if self._crowd is not None:
            # Those it answers may be followed by others at once, who go with those that wait.
            self._lull.come()

    def _go(self) -> None:
        if self._crowd is not None and len(self._away) < _AWAY_MAX and not self._lull.waiting:
            self._send(self._crowd)

    async def _bring(self, crowd: _Crowd[_Item, _Answer]) -> None:
        try:
            answer = await self._ask(list(crowd.items))
        except ShardsMissing as error:
            crowd.answer.set_result(error)
        except Exception as error:  # noqa: BLE001 - a bug, for whoever asked
            crowd.answer.set_exception(error)
        except asyncio.CancelledError:
            crowd.answer.cancel()
            raise
        else:
            crowd.answer.set_result(answer)


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
            gathering = self._gatherings[kind] = Gathering(read, self._deadline_s, self._crowd_max)
        try:
            return await gathering.answer(item)
        finally:
            if gathering.idle:
                self._gatherings.pop(kind, None)
