"""core.ports.IndexKeeping over Redis Cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from core.errors import IndexUnavailable
from core.ports import Checkpoint, Clock, LedgerPoint, ShardStatus
from core.types import IndexChange
from sharding.apply import ShardBatch, apply_batches, by_shard
from sharding.keys import SHARDS, SLOTS, copy_keys, done_key, meta_key, season_keys
from sharding.library import LIBRARY, Command
from sharding.metrics import LAG_SECONDS, REPLAYED
from sharding.reading import Question, ask
from sharding.replies import Reply, unavailable
from sharding.router import Router

_SEASONS_MAX: Final = 250
"""Seasons that one call looks at in each shard; more would hold up their node for long."""
_REPLAY_ITEMS_MAX: Final = 1000
"""Items of one call; an apply of that many holds up its node for some milliseconds."""


@dataclass(slots=True)
class _ShardState:
    """What a shard said of itself, over all the seasons asked."""

    reachable: bool = True
    mark: int | None = None
    mark_time_ms: int | None = None
    entry_count: int = 0
    building: bool = False
    ledger: bytes | None = None
    history: bytes = b""
    confirmed: bool = False


class RedisIndexKeeping:
    """Checkpoints and builds, one shard at a time."""

    def __init__(self, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock
        self._marks_ms: dict[int, int] = {}

    async def shards(self, season_numbers: Sequence[int]) -> Sequence[ShardStatus]:
        """As core.ports.IndexKeeping.shards."""
        states, _ = await self._states(season_numbers)
        statuses = [self._status(shard, state) for shard, state in states.items()]
        self._measure_lag(statuses)
        return statuses

    async def unbuilt(self, season_numbers: Sequence[int]) -> Sequence[tuple[int, int]]:
        """As core.ports.IndexKeeping.unbuilt."""
        _, unbuilt = await self._states(season_numbers)
        return unbuilt

    async def replay(self, shard: int, xids: Sequence[int], changes: Sequence[IndexChange]) -> bool:
        """As core.ports.IndexKeeping.replay. A season that the shard does not hold is passed over:
        it is going to be built from rows that have these transactions in them.
        """
        names = b",".join(b"%d" % xid for xid in xids)
        parts = [
            changes[start : start + _REPLAY_ITEMS_MAX]
            for start in range(0, len(changes), _REPLAY_ITEMS_MAX)
        ] or [changes]
        for number, part in enumerate(parts, start=1):
            # The last one says that the transactions are in: by then all of it is.
            told = names if number == len(parts) else b""
            batch = by_shard(part).get(shard, ShardBatch())
            if (await apply_batches(self._router, told, {shard: batch}))[shard] is None:
                return False
        REPLAYED.inc(len(xids))
        return True

    async def done(self, shard: int, *, since: int, horizon: int) -> frozenset[int]:
        """As core.ports.IndexKeeping.done. Raises IndexUnavailable."""
        keys = (meta_key(shard), done_key(shard))
        reply = await self._call(shard, LIBRARY.read("done", keys, (since, horizon)))
        if not isinstance(reply, list):
            raise IndexUnavailable
        return frozenset(int(xid) for xid in reply if isinstance(xid, bytes))

    async def checkpoint(self, shard: int, mark: Checkpoint) -> bool:
        """As core.ports.IndexKeeping.checkpoint. The shard's time never goes back. Raises
        IndexUnavailable.
        """
        keys = (meta_key(shard), done_key(shard))
        time_ms = () if mark.caught_up_ms is None else (mark.caught_up_ms,)
        args = (mark.since, mark.horizon, mark.count, mark.ledger, *time_ms)
        return await self._call(shard, LIBRARY.write("checkpoint", keys, args)) == b"OK"

    async def confirm(self, shard: int, history: bytes) -> bool:
        """As core.ports.IndexKeeping.confirm. Raises IndexUnavailable."""
        command = LIBRARY.write("confirm", (meta_key(shard),), (history,))
        return await self._call(shard, command) == b"OK"

    async def begin(
        self, season_number: int, shard: int, *, token: str, start: LedgerPoint
    ) -> bool:
        """As core.ports.IndexKeeping.begin. A shard's first mark gets the time of before the call.
        Raises IndexUnavailable.
        """
        keys = (meta_key(shard), done_key(shard), *copy_keys(shard, season_number))
        now_ms = self._clock.now_ms()
        args = (season_number, token.encode(), start.horizon, now_ms, start.ledger)
        return await self._call(shard, LIBRARY.write("begin", keys, args)) == b"OK"

    async def load(
        self, season_number: int, shard: int, *, token: str, chunk: int, items: bytes
    ) -> bool:
        """As core.ports.IndexKeeping.load. Raises IndexUnavailable."""
        keys = (meta_key(shard), *copy_keys(shard, season_number))
        args = (season_number, token.encode(), chunk, items)
        return await self._call(shard, LIBRARY.write("load", keys, args)) == b"OK"

    async def swap(self, season_number: int, shard: int, *, token: str, chunks: int) -> bool:
        """As core.ports.IndexKeeping.swap. Raises IndexUnavailable."""
        args = (season_number, token.encode(), chunks)
        command = LIBRARY.write("swap", _all_keys(season_number, shard), args)
        return await self._call(shard, command) == b"OK"

    async def reset(self, shard: int) -> None:
        """As core.ports.IndexKeeping.reset. Without its mark a shard answers UNBUILT for every
        season; the next build gives it a new one and a new incarnation, which the guards of all
        other seasons are not of.
        """
        await self._call(shard, (b"UNLINK", meta_key(shard), done_key(shard)))

    async def drop(self, season_number: int) -> None:
        """As core.ports.IndexKeeping.drop."""
        commands = {
            shard: LIBRARY.write("drop", _all_keys(season_number, shard), (season_number,))
            for shard in SHARDS
        }
        replies = await self._router.call_shards(commands, self._router.deadline())
        for shard, reply in replies.items():
            _require_answer(shard, reply)

    async def _call(self, shard: int, command: Command) -> Reply:
        replies = await self._router.call_shards({shard: command}, self._router.deadline())
        return _require_answer(shard, replies[shard])

    async def _states(
        self, season_numbers: Sequence[int]
    ) -> tuple[Mapping[int, _ShardState], list[tuple[int, int]]]:
        """Every shard's state, and the (season, shard) pairs that cannot be read."""
        states = {shard: _ShardState() for shard in SHARDS}
        unbuilt: list[tuple[int, int]] = []
        for seasons in _slices(season_numbers):
            names = {shard: _state_names(shard, seasons) for shard in SHARDS}
            question = Question("state", [(len(seasons),)], len(names[0]), names)
            replies = await ask(self._router, question, self._router.deadline())
            for shard, (reply,) in replies.items():
                places = _add(states[shard], reply)
                unbuilt += [(seasons[place], shard) for place in places]
        return states, unbuilt

    def _measure_lag(self, statuses: Sequence[ShardStatus]) -> None:
        """Also of shards that do not answer: they fall behind by what has passed since they did."""
        now_ms = self._clock.now_ms()
        for status in statuses:
            if status.checkpoint_time_ms is not None:
                self._marks_ms[status.shard] = status.checkpoint_time_ms
        for shard, mark_ms in self._marks_ms.items():
            LAG_SECONDS.labels(shard).set(max(0, now_ms - mark_ms) / 1000)

    def _status(self, shard: int, state: _ShardState) -> ShardStatus:
        owner = self._router.owner(shard)
        return ShardStatus(
            shard=shard,
            slot=SLOTS[shard],
            node_address="" if owner is None else str(owner),
            reachable=state.reachable,
            checkpoint=state.mark,
            checkpoint_time_ms=state.mark_time_ms,
            entry_count=state.entry_count,
            building=state.building,
            ledger=state.ledger,
            history=state.history,
            confirmed=state.confirmed,
        )


def _all_keys(season_number: int, shard: int) -> tuple[bytes, ...]:
    return (
        meta_key(shard),
        *season_keys(shard, season_number),
        *copy_keys(shard, season_number),
    )


def _state_names(shard: int, season_numbers: Sequence[int]) -> tuple[bytes, ...]:
    pairs = chain.from_iterable(season_keys(shard, number) for number in season_numbers)
    return (meta_key(shard), *pairs)


def _slices(season_numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, max(1, len(season_numbers)), _SEASONS_MAX):
        yield season_numbers[start : start + _SEASONS_MAX]


def _add(state: _ShardState, reply: Reply) -> list[int]:
    """Adds what a shard replied to its state; returns the places of the seasons it lacks."""
    match reply:
        case [mark, mark_time_ms, int(live), int(building), list(unbuilt), *identity]:
            state.mark = int(mark) if isinstance(mark, bytes) else None
            state.mark_time_ms = int(mark_time_ms) if isinstance(mark_time_ms, bytes) else None
            state.entry_count += live
            state.building = bool(building)
            ledger, confirmed, history = identity
            state.ledger = ledger if isinstance(ledger, bytes) else None
            state.history = history if isinstance(history, bytes) else b""
            state.confirmed = confirmed == history
            return [place for place in unbuilt if isinstance(place, int)]
    state.reachable = False
    return []


def _require_answer(shard: int, reply: Reply) -> Reply:
    """The reply of a shard, if it is one. Raises IndexUnavailable."""
    if isinstance(reply, Exception):
        raise unavailable({shard: reply})
    return reply
