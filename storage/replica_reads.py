"""core.ports.EntryReads on PostgreSQL and its replicas: those take the reads that may be a bit old.

    a read with a consistency token    primary
    any other                          a replica that is fit, then the primary
    and while the primary is away      the replica that is least behind

A replica is fit that is behind by no more than the setting and the caller allow. It never says that
there is no entry: who has none there may have been given one since.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, TypeAlias, TypeVar

from core.errors import IndexUnavailable, ShardsMissing
from core.ports import (
    Clock,
    EntryReads,
    Freshness,
    IndexedEntry,
    IndexView,
    KeyRange,
    PageSlice,
    Window,
)
from core.snapshot_ports import Snapshots
from core.types import ALL_SHARDS, shard_of
from resilience.deadline import half_the_time
from storage import metrics
from storage.replicas import Replica

_PRIMARY: Final = "primary"

_T = TypeVar("_T")
_Read: TypeAlias = Callable[[EntryReads], Awaitable[tuple[_T, IndexView]]]
"""What is read of a server, and what that says of itself."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How old the state of a replica may be: beside a primary that answers, and without one."""

    lag_s: float
    alone_s: float


@dataclass(frozen=True, slots=True)
class Target:
    """A replica, and the reads of it."""

    replica: Replica
    reads: EntryReads


class ReplicaReads:
    """The `EntryReads` port on a primary and its replicas, which take turns."""

    def __init__(
        self,
        primary: EntryReads,
        targets: Sequence[Target],
        snapshots: Snapshots,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._primary = primary
        self._targets = list(targets)
        self._snapshots = snapshots
        self._clock = clock
        self._limits = limits

    async def users(
        self, season_number: int, user_ids: Sequence[int], *, cutoff_bytes: int, fresh: Freshness
    ) -> tuple[Mapping[int, IndexedEntry], IndexView]:
        """As core.ports.EntryReads.users."""

        async def read(
            reads: EntryReads,
        ) -> tuple[tuple[Mapping[int, IndexedEntry], IndexView], IndexView]:
            found = await reads.users(
                season_number, user_ids, cutoff_bytes=cutoff_bytes, fresh=fresh
            )
            if reads is not self._primary:
                _require_shown(found[0], user_ids)
            return found, found[1]

        return await self._ask(season_number, fresh, read)

    async def count_before(
        self,
        season_number: int,
        cutoffs: Sequence[bytes],
        *,
        shards: Sequence[int],
        fresh: Freshness,
    ) -> tuple[Sequence[Sequence[int]], IndexView]:
        """As core.ports.EntryReads.count_before."""

        async def read(
            reads: EntryReads,
        ) -> tuple[tuple[Sequence[Sequence[int]], IndexView], IndexView]:
            found = await reads.count_before(season_number, cutoffs, shards=shards, fresh=fresh)
            return found, found[1]

        return await self._ask(season_number, fresh, read)

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
        """As core.ports.EntryReads.window."""

        async def read(reads: EntryReads) -> tuple[Window, IndexView]:
            window = await reads.window(
                season_number,
                point,
                above=above,
                below=below,
                within=within,
                fresh=fresh,
                shards=shards,
            )
            return window, window.view

        return await self._ask(season_number, fresh, read)

    async def window_of(
        self, season_number: int, user_id: int, *, above: int, below: int, fresh: Freshness
    ) -> tuple[IndexedEntry, Window] | None:
        """As core.ports.EntryReads.window_of."""

        async def read(
            reads: EntryReads,
        ) -> tuple[tuple[IndexedEntry, Window] | None, IndexView]:
            found = await reads.window_of(
                season_number, user_id, above=above, below=below, fresh=fresh
            )
            if reads is not self._primary:
                _require_shown({} if found is None else {user_id: found[0]}, [user_id])
            return found, found[1].view if found else _NO_VIEW

        return await self._ask(season_number, fresh, read)

    async def page_at(
        self, season_number: int, *, offset: int, limit: int, fresh: Freshness
    ) -> PageSlice:
        """As core.ports.EntryReads.page_at."""

        async def read(reads: EntryReads) -> tuple[PageSlice, IndexView]:
            page = await reads.page_at(season_number, offset=offset, limit=limit, fresh=fresh)
            return page, page.view

        return await self._ask(season_number, fresh, read)

    async def _ask(self, season_number: int, fresh: Freshness, read: _Read[_T]) -> _T:
        """What the first one says who may be asked and answers. Raises ShardsMissing."""
        limit_s = min(self._limits.lag_s, _seconds(fresh.max_staleness_ms))
        target = None if fresh.xids else self._next_fit(limit_s)
        if target is not None:
            try:
                with half_the_time():
                    return await self._ask_replica(target, limit_s, read)
            except ShardsMissing:
                # Too far down for it, out of its time, in the way of its replay, or gone.
                pass
        try:
            answer, _ = await read(self._primary)
        except ShardsMissing as error:
            last = None if fresh.xids or error.__cause__ is None else self._least_behind()
            if last is None or self._snapshot_serves_better(last, season_number, fresh):
                raise
            return await self._ask_replica(last, self._limits.alone_s, read)
        metrics.DATABASE_READS.labels(_PRIMARY).inc()
        return answer

    async def _ask_replica(self, target: Target, limit_s: float, read: _Read[_T]) -> _T:
        """What a replica says. Raises ShardsMissing, also where that is older than `limit_s`."""
        answer, view = await read(target.reads)
        if self._clock.now_ms() - view.snapshot_ms > limit_s * 1000:
            raise IndexUnavailable(view.missing)
        metrics.DATABASE_READS.labels(target.replica.name).inc()
        return answer

    def _next_fit(self, limit_s: float) -> Target | None:
        """The replica whose turn it is; the others are next."""
        for place, target in enumerate(self._targets):
            if target.replica.lag_s <= limit_s and not target.replica.shut:
                self._targets.append(self._targets.pop(place))
                return target
        return None

    def _least_behind(self) -> Target | None:
        """Who tells most while the primary tells nothing."""
        able = [target for target in self._targets if not target.replica.shut]
        last = min(able, key=lambda target: target.replica.lag_s, default=None)
        return last if last and last.replica.lag_s <= self._limits.alone_s else None

    def _snapshot_serves_better(self, last: Target, season_number: int, fresh: Freshness) -> bool:
        """Whether the caller wants no answer as old as a replica's, and a snapshot is younger. If
        neither is young enough, the answer is refused for its age.
        """
        lag_s = last.replica.lag_s
        if lag_s <= _seconds(fresh.max_staleness_ms):
            return False
        snapshot = self._snapshots.newest(season_number)
        return snapshot is not None and self._clock.now_ms() - snapshot.made_ms < lag_s * 1000


_NO_VIEW: Final = IndexView(epoch=0, entry_count=0)


def _require_shown(entries: Mapping[int, IndexedEntry], user_ids: Sequence[int]) -> None:
    """Raises IndexUnavailable with the shards of users who are absent, or hidden."""
    unsure = {user_id for user_id in user_ids if user_id not in entries}
    unsure |= {user_id for user_id, entry in entries.items() if entry.hidden}
    if unsure:
        raise IndexUnavailable(map(shard_of, unsure))


def _seconds(limit_ms: int | None) -> float:
    return inf if limit_ms is None else limit_ms / 1000
