"""Any history of commits, late and doubled applies, healing, builds, flushes, failovers that take
writes back and other ledgers ends with an index that equals the ledger (PROTOCOL P5, P6). On the
way it never shows what the ledger has not, nor lacks what it was acknowledged to have.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.embedded.redis_node import RedisNode
from core.errors import IndexUnavailable, IndexUnbuilt, Unavailable
from core.flushes import FlushResult
from core.ordering import RESULT_BYTES, decode_item
from core.types import Board, Operator
from tests.fakes.making import board_spec, submission
from tests.fixtures.keeping import Kept
from tests.fixtures.redis import empty
from tests.integration.sharding.nodes import primaries

pytestmark = [pytest.mark.both_engines, pytest.mark.timeout(600)]

_names = (f"index-{number}" for number in itertools.count(1))
_flush = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2)), min_size=1, max_size=4)
_often = st.one_of(
    st.tuples(st.sampled_from(["commit and apply", "commit and hold", "commit and lose"]), _flush),
    st.tuples(st.just("apply a held one"), st.integers(0, 9)),
    st.tuples(st.just("apply one again"), st.integers(0, 9)),
    st.tuples(st.just("heal"), st.none()),
)
_seldom = st.one_of(
    st.tuples(st.just("flush redis"), st.none()),
    st.tuples(st.just("build"), st.none()),
    st.tuples(st.just("begin a build and die"), st.integers(0, 15)),
    st.tuples(st.just("rebuild"), st.none()),
    st.tuples(st.just("stop replicating"), st.none()),
    st.tuples(st.just("fail over"), st.integers(0, 2)),
    st.tuples(st.just("be of another ledger"), st.none()),
)
_steps = st.one_of(_often, _often, _often, _seldom)
_ONE = [(1, 1)]


@dataclass
class History:
    """One board through whatever happens."""

    kept: Kept
    board: Board
    held: list[FlushResult] = field(default_factory=list)
    applied: list[FlushResult] = field(default_factory=list)
    replicas: list[dict[bytes, bytes]] = field(default_factory=list)
    """What the replica of each primary has, from when it stopped following."""
    acknowledged: dict[int, bytes] = field(default_factory=dict)
    """By user the best result that the index was said to have."""

    async def step(self, action: str, detail: object) -> None:
        """Lets one thing happen."""
        match action, detail:
            case (_, list(scores)):
                await self._commit(action, scores)
            case ("apply a held one", int(number)) if self.held:
                await self._apply(self.held.pop(number % len(self.held)))
            case ("apply one again", int(number)) if self.applied:
                await self.kept.apply(self.applied[number % len(self.applied)])
            case ("begin a build and die", int(shard)):
                await self._begin(shard)
            case ("heal", _):
                await self.kept.heal()
            case _:
                await self._mishap(action, detail)

    async def _mishap(self, action: str, detail: object) -> None:
        match action, detail:
            case ("flush redis", _):
                await empty(self.kept.cluster)
            case ("build", _):
                await self.kept.build_missing()
            case ("rebuild", _):
                await self.kept.build.season(self.board.season.number)
            case ("stop replicating", _):
                self.replicas = [await _contents(node) for node in await primaries(self._cluster)]
            case ("fail over", int(number)) if self.replicas:
                node = (await primaries(self._cluster))[number]
                await _put_back(node, self.replicas[number])
            case ("be of another ledger", _):
                for node in await primaries(self._cluster):
                    await _edit_meta(node, b"L", b"another!")

    async def look(self) -> None:
        """What is shown is true, if not the newest, and has all that was acknowledged."""
        try:
            shown = await self.kept.shown(self.board)
        except (IndexUnbuilt, IndexUnavailable):
            return
        assert len(shown) <= len(await self.kept.truth(self.board))
        results = {int.from_bytes(key[-8:]): key[:RESULT_BYTES] for key in shown}
        for user_id, result in self.acknowledged.items():
            # Scores only grow, and the better ones are first.
            assert results[user_id] <= result

    async def end(self) -> None:
        """Lets builder and healer run until no shard waits for a transaction, and the last late
        applies come.
        """
        # The first step may give up what is of another ledger.
        await self.kept.heal()
        await self.kept.build_missing()
        await self.kept.catch_up()
        for late in self.held:
            await self.kept.apply(late)

    async def _commit(self, action: str, scores: Sequence[tuple[int, int]]) -> None:
        name = self.board.spec.board_id
        items = [submission(user, score, board_id=name) for user, score in scores]
        result = await self.kept.record(self.board, items)
        if action == "commit and apply":
            await self._apply(result)
        elif action == "commit and hold":
            self.held.append(result)

    @property
    def _cluster(self) -> EmbeddedRedisCluster:
        return self.kept.cluster

    async def _apply(self, result: FlushResult) -> None:
        self.applied.append(result)
        for xid, changes in result.changes.items():
            missed = await self.kept.index.apply(xid, changes)
            for change in changes:
                if (change.season_number, change.shard) not in missed:
                    item = decode_item(change.item)
                    result_bytes = item.prefix[:RESULT_BYTES]
                    known = self.acknowledged.get(item.user_id, result_bytes)
                    self.acknowledged[item.user_id] = min(known, result_bytes)

    async def _begin(self, shard: int) -> None:
        start = await self.kept.history.point()
        # Never the same token twice: an incarnation of a shard is named after the one it began by.
        with contextlib.suppress(Unavailable):
            await self.kept.keeping.begin(
                self.board.season.number, shard, token=uuid.uuid4().hex, start=start
            )


async def _contents(node: RedisNode) -> dict[bytes, bytes]:
    """All keys of a node."""
    async with Redis(port=node.port) as client:
        keys = await client.keys()
        dumps = [await client.dump(key) for key in keys]
    return dict(zip(keys, dumps, strict=True))


async def _put_back(node: RedisNode, contents: dict[bytes, bytes]) -> None:
    """What a failover does to the data of a primary: older ones, and another history from here."""
    async with Redis(port=node.port) as client:
        await client.flushall()
        for key, dump in contents.items():
            await client.restore(key, 0, dump)
    await _edit_meta(node, b"R", b"the lost one")


async def _edit_meta(node: RedisNode, field_name: bytes, value: bytes) -> None:
    async with Redis(port=node.port) as client:
        for key in await client.keys(b"*:m"):
            if await client.hexists(key, "C"):
                await client.hset(key, field_name, value)


_FAILOVERS = [("stop replicating", None), ("commit and apply", _ONE)]
_REBORN = [("be of another ledger", None), ("heal", None), ("begin a build and die", 1)]


@example([*_FAILOVERS, *(("fail over", number) for number in range(3)), ("heal", None)])
@example([*_FAILOVERS, ("rebuild", None), *(("fail over", n) for n in range(3)), ("heal", None)])
@example([("commit and apply", _ONE), ("be of another ledger", None), ("heal", None)])
@example([("commit and hold", _ONE), ("commit and apply", _ONE), ("apply a held one", 0)])
@example([("commit and hold", _ONE), ("heal", None), ("apply a held one", 0)])
@example([("commit and lose", _ONE), ("commit and apply", [(2, 1)]), ("heal", None)])
@example([("begin a build and die", 1), ("commit and apply", _ONE), ("build", None)])
@example([("flush redis", None), ("commit and apply", _ONE), ("build", None), ("heal", None)])
@example([*_REBORN, ("build", None), *_REBORN[:2], ("commit and lose", _ONE), _REBORN[2]])
@given(steps=st.lists(_steps, min_size=5, max_size=30))
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_any_history_ends_with_an_equal_index(
    kept: Kept, steps: list[tuple[str, object]]
) -> None:
    """Whatever was missed, doubled, late, wiped or taken back: it becomes equal again."""
    board = await kept.boards.create(board_spec(next(_names), operator=Operator.INCREMENT))
    await kept.build_missing()
    history = History(kept, board)
    for action, detail in steps:
        await history.step(action, detail)
        await history.look()

    await history.end()

    assert await kept.shown(board) == await kept.truth(board)
    await kept.boards.delete(board.spec.board_id, etag="")
