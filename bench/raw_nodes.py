"""The node calls of BatchGetEntries without a product around them: what the index itself can do.

The commands are the product's own, packed before the clock starts; their replies are parsed and
thrown away.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, cast

import psycopg
from hiredis import Reader, pack_command

from bench.driving import Groups, generated_here, watched
from bench.errors import BenchFailed
from bench.requests import FRIEND_COUNT
from bench.samples import Sample, sample_of_times
from core.ordering import KEY_BYTES, PREFIX_BYTES, VALUE_BYTES
from core.types import shard_of
from sharding.keys import SHARDS, read_keys
from sharding.library import Argument, Command
from sharding.reading import Question
from sharding.slot_map import Address, SlotMap

_IN_FLIGHT: Final = 2
"""Batches on their way to a node at once, as the product has them."""
_BATCHES: Final = 100
_RECEIVE_BYTES: Final = 2**18
_TIMEOUT_S: Final = 10.0
_SEASON: Final = """
select s.season_no from seasons s join boards b using (board_no)
where b.board_id = %s and b.delete_time is null
"""
# Its stub knows only commands of one word.
_pack = cast("Callable[[Command], bytes]", pack_command)
_NOTHING: Final = object()


class _Wire:
    """A connection that waits for its answers."""

    def __init__(self, address: Address, exit_stack: ExitStack) -> None:
        self._socket = exit_stack.enter_context(
            socket.create_connection(address, timeout=_TIMEOUT_S)
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = Reader(notEnoughData=_NOTHING)

    def send(self, packed: bytes) -> None:
        self._socket.sendall(packed)

    def receive(self) -> object:
        while (reply := self._reader.gets()) is _NOTHING:
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                raise BenchFailed("a Redis node hung up")
            self._reader.feed(data)
        return reply

    def ask(self, command: Command) -> object:
        self.send(_pack(command))
        return self.receive()


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one BatchGetEntries asks of each node: first the users, then the counts."""

    users: Mapping[Address, bytes]
    counts: Mapping[Address, bytes]


@dataclass(slots=True)
class RawNodes:
    """The same node calls, again and again. A call of its samples is a batch of 100 users."""

    dsn: str
    node: str
    board_id: str
    entry_count: int
    groups: Groups
    _batches: Sequence[_Batch] = ()

    async def __call__(self, seconds: float) -> Sample:
        """One run. Raises BenchFailed."""
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            row = await (await connection.execute(_SEASON, (self.board_id,))).fetchone()
        if row is None:
            raise BenchFailed(f"there is no board {self.board_id}")
        season = int(row[0])
        return await watched(
            self.groups, lambda: generated_here(asyncio.to_thread(self._run, season, seconds))
        )

    def _run(self, season: int, seconds: float) -> Sample:
        with ExitStack() as exit_stack:
            asked = Address.parse(self.node)
            slots = SlotMap.parse(_Wire(asked, exit_stack).ask((b"CLUSTER", b"SLOTS")), asked=asked)
            shards = slots.by_node(SHARDS)
            wires = {address: _Wire(address, exit_stack) for address in shards}
            if not self._batches:
                self._batches = self._made(season, shards, wires)
            return self._timed(wires, seconds)

    def _timed(self, wires: Mapping[Address, _Wire], seconds: float) -> Sample:
        times_ms: list[float] = []
        started_s = last_s = time.monotonic()
        place = 0
        while last_s - started_s < seconds:
            batches = [self._batches[(place + n) % _BATCHES] for n in range(_IN_FLIGHT)]
            _exchange(wires, [batch.users for batch in batches])
            _exchange(wires, [batch.counts for batch in batches])
            place += _IN_FLIGHT
            now_s = time.monotonic()
            times_ms += [1000 * (now_s - last_s)] * _IN_FLIGHT
            last_s = now_s
        return sample_of_times(times_ms, last_s - started_s)

    def _made(
        self, season: int, shards: Mapping[Address, Sequence[int]], wires: Mapping[Address, _Wire]
    ) -> Sequence[_Batch]:
        rng = random.Random(1)  # noqa: S311 - no secret
        count = min(FRIEND_COUNT, self.entry_count)
        chosen = [rng.sample(range(1, self.entry_count + 1), count) for _ in range(_BATCHES)]
        return [_batch(users, season, shards, wires) for users in chosen]


def _exchange(
    wires: Mapping[Address, _Wire], calls: Sequence[Mapping[Address, bytes]]
) -> Sequence[object]:
    """All calls to all nodes at once, and every reply, call by call."""
    for address, wire in wires.items():
        wire.send(b"".join(call[address] for call in calls if address in call))
    return [wires[address].receive() for call in calls for address in call]


def _batch(
    users: Sequence[int],
    season: int,
    shards: Mapping[Address, Sequence[int]],
    wires: Mapping[Address, _Wire],
) -> _Batch:
    by_shard: dict[int, list[int]] = {}
    for user in users:
        by_shard.setdefault(shard_of(user), []).append(user)
    asked = {
        shard: (struct.pack(f">{len(members)}Q", *members),) for shard, members in by_shard.items()
    }
    first = _packed("users", (KEY_BYTES,), asked, season, shards)
    replies = _exchange(wires, [first])
    keys = b"".join(
        key
        for reply, address in zip(replies, first, strict=True)
        for key in _keys(reply, [by_shard[one] for one in shards[address] if one in by_shard])
    )
    second = _packed("ranks", (KEY_BYTES, keys), dict.fromkeys(SHARDS, ()), season, shards)
    return _Batch(first, second)


def _packed(
    function: str,
    shared: tuple[Argument, ...],
    own: Mapping[int, tuple[Argument, ...]],
    season: int,
    shards: Mapping[Address, Sequence[int]],
) -> Mapping[Address, bytes]:
    keys = read_keys(season)
    asking = {shard: (*keys[shard], b"", *args) for shard, args in own.items()}
    question = Question(function, [shared], len(keys[0]), asking)
    asked = {
        address: [shard for shard in members if shard in own] for address, members in shards.items()
    }
    return {
        address: b"".join(map(_pack, question.to_node(members)))
        for address, members in asked.items()
        if members
    }


def _keys(reply: object, users: Sequence[Sequence[int]]) -> Sequence[bytes]:
    """The keys of the users of each shard of a node."""
    keys = []
    if not isinstance(reply, list):
        raise BenchFailed(f"a Redis node said {reply!r}")
    for shard, members in zip(reply, users, strict=True):
        match shard:
            case [int(), int(), int(), bytes(values), bytes()]:
                for place, user in enumerate(members):
                    value = values[place * VALUE_BYTES : (place + 1) * VALUE_BYTES]
                    keys.append(value[:PREFIX_BYTES] + struct.pack(">Q", user))
            case _:
                raise BenchFailed(f"a shard said {shard!r}")
    return keys
