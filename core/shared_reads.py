"""Natural batching of reads: questions that come together are asked together.

What many callers ask of each shard in one call costs little more than what one asks: the call, not
the lookup, is the price. So what comes in during one turn of the event loop goes out together,
and while a crowd is on its way, the next one gathers; a lone question goes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from math import inf
from typing import Final, Generic, TypeVar

from core.errors import ShardsMissing
from core.lull import Lull
from core.ports import Freshness, Index, IndexedEntry, IndexView, KeyRange, PageSlice, Window
from core.types import ALL_SHARDS, IndexChange, shard_of

_AWAY_MAX: Final = 1
"""Crowds of a kind on their way. With two, crowds are half as large, and a worker's time goes into
calls: on grpcio, which brings one call a turn, one gave 12 to 20 % more."""
_ALONE: Final = 8
"""Who asks for more than so many goes alone: there is little to save."""
_CROWD_MAX: Final = 128
"""What a crowd asks for; a call holds up its node."""
_NOT_FRESH: Final = Freshness()

_Item = TypeVar("_Item", bound=Hashable)
_Answer = TypeVar("_Answer")
_Users = tuple[Mapping[int, IndexedEntry], IndexView, ShardsMissing | None]
"""What is known of the users, and what trouble took others away."""
_Counts = tuple[Mapping[bytes, Sequence[int]], IndexView]


@dataclass(slots=True, eq=False)
class _Crowd(Generic[_Item, _Answer]):
    """Those who ask together, and the call of theirs that has the most time."""

    answer: asyncio.Future[_Answer | ShardsMissing]
    items: dict[_Item, None] = field(default_factory=dict)
    context: Context | None = None
    end_s: float = -inf


class _Gathering(Generic[_Item, _Answer]):
    """Questions of one kind, which one call answers together."""

    def __init__(
        self,
        ask: Callable[[Sequence[_Item]], Awaitable[_Answer]],
        deadline_s: Callable[[], float | None],
    ) -> None:
        self._ask = ask
        self._deadline_s = deadline_s
        self._crowd: _Crowd[_Item, _Answer] | None = None
        self._lull = Lull(self._go)
        self._away: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Whether nobody gathers and nobody is on the way."""
        return self._crowd is None and not self._away

    async def answer(self, items: Sequence[_Item]) -> _Answer:
        """What is said of these items, among others. Raises ShardsMissing."""
        crowd = self._join(items)
        # Who gives up leaves the others theirs.
        answer = await asyncio.shield(crowd.answer)
        if isinstance(answer, ShardsMissing):
            # One for each: who raises it adds where it went.
            raise type(answer)(answer.shards, retry_after_ms=answer.retry_after_ms) from answer
        return answer

    def _join(self, items: Sequence[_Item]) -> _Crowd[_Item, _Answer]:
        crowd = self._crowd
        if crowd is None:
            crowd = self._crowd = _Crowd(asyncio.get_running_loop().create_future())
        self._lull.come()
        crowd.items.update(dict.fromkeys(items))
        end_s = self._deadline_s()
        if end_s is None:
            end_s = inf
        if crowd.context is None or end_s > crowd.end_s:
            crowd.end_s, crowd.context = end_s, copy_context()
        if len(crowd.items) >= _CROWD_MAX:
            self._send(crowd)
        return crowd

    def _send(self, crowd: _Crowd[_Item, _Answer]) -> None:
        """Sends the crowd that gathers, unless it has gone already."""
        if crowd is not self._crowd:
            return
        self._crowd = None
        task = asyncio.get_running_loop().create_task(self._bring(crowd), context=crowd.context)
        self._away.add(task)
        task.add_done_callback(self._back)

    def _back(self, task: asyncio.Task[None]) -> None:
        self._away.discard(task)
        self._go()

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


class SharedReads:
    """core.ports.Index, asked for users and counts by all who ask at the same time together.

    `deadline_s` tells when the time of the caller is over. Each caller hears only of the shards
    that it asked for. Who wants to see a certain write asks alone.
    """

    def __init__(self, index: Index, deadline_s: Callable[[], float | None]) -> None:
        self._index = index
        self._deadline_s = deadline_s
        self._users: dict[tuple[int, int], _Gathering[int, _Users]] = {}
        self._counts: dict[tuple[int, int, tuple[int, ...]], _Gathering[bytes, _Counts]] = {}

    async def users(
        self, season_number: int, user_ids: Sequence[int], *, cutoff_bytes: int, fresh: Freshness
    ) -> tuple[Mapping[int, IndexedEntry], IndexView]:
        """See `EntryReads.users`; the view may be of more shards."""
        if fresh.xids or len(user_ids) > _ALONE:
            return await self._index.users(
                season_number, user_ids, cutoff_bytes=cutoff_bytes, fresh=fresh
            )
        key = (season_number, cutoff_bytes)
        gathering = self._users.get(key)
        if gathering is None:
            gathering = self._users[key] = self._gather_users(season_number, cutoff_bytes)
        try:
            entries, view, trouble = await gathering.answer(user_ids)
        finally:
            if gathering.idle:
                self._users.pop(key, None)
        if trouble is not None:
            own = trouble.shards.intersection(map(shard_of, user_ids))
            if own:
                raise type(trouble)(own, retry_after_ms=trouble.retry_after_ms) from trouble
        return {user: entries[user] for user in user_ids if user in entries}, view

    async def count_before(
        self,
        season_number: int,
        cutoffs: Sequence[bytes],
        *,
        shards: Sequence[int],
        fresh: Freshness,
    ) -> tuple[Sequence[Sequence[int]], IndexView]:
        """See `EntryReads.count_before`."""
        lengths = {len(cutoff) for cutoff in cutoffs}
        if fresh.xids or len(cutoffs) > _ALONE or len(lengths) != 1:
            return await self._index.count_before(
                season_number, cutoffs, shards=shards, fresh=fresh
            )
        key = (season_number, lengths.pop(), tuple(shards))
        gathering = self._counts.get(key)
        if gathering is None:
            gathering = self._counts[key] = self._gather_counts(season_number, key[2])
        try:
            counts, view = await gathering.answer(cutoffs)
        finally:
            if gathering.idle:
                self._counts.pop(key, None)
        by_cutoff = [counts[cutoff] for cutoff in cutoffs]
        return list(zip(*by_cutoff, strict=True)), view

    async def window(
        self,
        season_number: int,
        point: bytes,
        *,
        above: int,
        below: int,
        within: KeyRange,
        fresh: Freshness,
        shards: Sequence[int] = ALL_SHARDS,
    ) -> Window:
        """See `EntryReads.window`; not shared."""
        return await self._index.window(
            season_number,
            point,
            above=above,
            below=below,
            within=within,
            fresh=fresh,
            shards=shards,
        )

    async def window_of(
        self, season_number: int, user_id: int, *, above: int, below: int, fresh: Freshness
    ) -> tuple[IndexedEntry, Window] | None:
        """See `EntryReads.window_of`; not shared."""
        return await self._index.window_of(
            season_number, user_id, above=above, below=below, fresh=fresh
        )

    async def page_at(
        self, season_number: int, *, offset: int, limit: int, fresh: Freshness
    ) -> PageSlice:
        """See `EntryReads.page_at`; not shared."""
        return await self._index.page_at(season_number, offset=offset, limit=limit, fresh=fresh)

    async def apply(self, xid: int, changes: Sequence[IndexChange]) -> frozenset[tuple[int, int]]:
        """See `Index.apply`."""
        return await self._index.apply(xid, changes)

    def _gather_users(self, season_number: int, cutoff_bytes: int) -> _Gathering[int, _Users]:
        async def ask(user_ids: Sequence[int]) -> _Users:
            trouble = None
            while True:
                try:
                    entries, view = await self._index.users(
                        season_number, user_ids, cutoff_bytes=cutoff_bytes, fresh=_NOT_FRESH
                    )
                except ShardsMissing as error:
                    # Who asked for other shards is not to suffer. Fewer each time: it ends.
                    lost = error.shards if trouble is None else error.shards | trouble.shards
                    rest = [user for user in user_ids if shard_of(user) not in lost]
                    if not error.shards or not rest or len(rest) == len(user_ids):
                        raise
                    user_ids = rest
                    trouble = type(error)(lost, retry_after_ms=error.retry_after_ms)
                else:
                    return entries, view, trouble

        return _Gathering(ask, self._deadline_s)

    def _gather_counts(
        self, season_number: int, shards: tuple[int, ...]
    ) -> _Gathering[bytes, _Counts]:
        async def ask(cutoffs: Sequence[bytes]) -> _Counts:
            counts, view = await self._index.count_before(
                season_number, cutoffs, shards=shards, fresh=_NOT_FRESH
            )
            return dict(zip(cutoffs, zip(*counts, strict=True), strict=True)), view

        return _Gathering(ask, self._deadline_s)
