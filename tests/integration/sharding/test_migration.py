"""A slot that moves while it is read and written: slow at worst, never wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

import sharding.router
from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from core.errors import IndexUnavailable
from core.ports import Freshness
from sharding.index import RedisIndex
from sharding.keeping import RedisIndexKeeping
from sharding.keys import done_key, meta_key, season_keys
from sharding.router import Router
from sharding.settings import RedisSettings
from tests.fixtures.redis import empty
from tests.integration.sharding.board import SEASON, build, change_of, confirm, item_of
from tests.integration.sharding.nodes import Move, owner, primaries

pytestmark = pytest.mark.every_engine

ANY = Freshness()
SHARD = 2
KEYS = (meta_key(SHARD), done_key(SHARD), *season_keys(SHARD, SEASON))
ITEMS = [item_of(16 * n + SHARD, n) for n in range(100)]


@pytest.fixture
async def move(cluster: EmbeddedRedisCluster) -> AsyncIterator[Move]:
    """A move of SHARD, which is undone afterwards."""
    source = await owner(cluster, SHARD)
    others = [node for node in await primaries(cluster) if node is not source]
    move = Move(cluster, SHARD, source, others[0])
    yield move
    await empty(cluster)
    await move.undo()


async def rank_of_last(index: RedisIndex) -> int:
    """The entries of the shard before the last one, asked together with all the others."""
    counts, view = await index.count_before(
        SEASON, [b"\xff" * 32], shards=range(16), fresh=Freshness({SHARD: (101,)})
    )
    assert view.entry_count == len(ITEMS)
    return counts[SHARD][0]


async def confirm_moved(index: RedisIndex, keeping: RedisIndexKeeping) -> None:
    """A node that a shard has come to cannot know whether it came whole: the healer says so."""
    with pytest.raises(IndexUnavailable) as refused:
        await index.users(SEASON, [SHARD], cutoff_bytes=32, fresh=ANY)
    assert refused.value.shards == {SHARD}
    await confirm(keeping)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 3, 0, 2), (2, 0, 3, 1), (3, 2, 1, 0)])
async def test_a_read_in_the_middle_of_a_move_is_right_or_refused(
    index: RedisIndex, keeping: RedisIndexKeeping, move: Move, order: tuple[int, ...]
) -> None:
    """With any of the keys gone ahead a count is whole or there is none."""
    await build(keeping)
    await index.apply(101, [change_of(item) for item in ITEMS])
    await move.begin()

    assert await rank_of_last(index) == len(ITEMS)
    for place in order[:-1]:
        await move.carry(KEYS[place])
        with pytest.raises(IndexUnavailable):
            await rank_of_last(index)
        assert await index.apply(102, [change_of(ITEMS[0])]) == {(SEASON, SHARD)}
    await move.carry(KEYS[order[-1]])
    await confirm_moved(index, keeping)
    assert await rank_of_last(index) == len(ITEMS)
    assert await index.apply(103, [change_of(ITEMS[0])]) == frozenset()
    await move.end()
    assert await rank_of_last(index) == len(ITEMS)


async def test_windows_and_pages_in_the_middle_of_a_move_are_right_or_refused(
    index: RedisIndex, keeping: RedisIndexKeeping, move: Move
) -> None:
    """Whether they narrow down or not, and also around a user of the shard that moves."""
    items = [*ITEMS, *(item_of(n, n) for n in range(1700, 5000) if n % 16 != SHARD)]
    keys = sorted(item.key for item in items)
    await build(keeping, items)

    async def require_all() -> None:
        page = await index.page_at(SEASON, offset=3000, limit=300, fresh=ANY)
        around = await index.window_of(SEASON, ITEMS[50].user_id, above=5, below=5, fresh=ANY)
        assert (page.before, [key for key, _ in page.entries]) == (3000, keys[3000:3300])
        assert around is not None
        place = keys.index(ITEMS[50].key)
        assert around[1].before == place
        assert [key for key, _ in around[1].above] == keys[place - 5 : place]
        assert [key for key, _ in around[1].below] == keys[place + 1 : place + 6]

    await move.begin()
    await require_all()
    for key in KEYS[:-1]:
        await move.carry(key)
        with pytest.raises(IndexUnavailable):
            await index.page_at(SEASON, offset=3000, limit=300, fresh=ANY)
        with pytest.raises(IndexUnavailable):
            await index.window_of(SEASON, ITEMS[50].user_id, above=5, below=5, fresh=ANY)
    await move.carry(KEYS[-1])
    await confirm_moved(index, keeping)
    await require_all()
    await move.end()
    await require_all()


async def test_a_move_that_is_done_is_followed_and_remembered(
    index: RedisIndex, keeping: RedisIndexKeeping, router: Router, move: Move
) -> None:
    """The first call after a move succeeds, and the next one knows where to go."""
    await build(keeping)
    await index.apply(101, [change_of(item) for item in ITEMS])
    await move.begin()
    await move.carry(*KEYS)
    await move.end()

    await confirm_moved(index, keeping)
    assert await rank_of_last(index) == len(ITEMS)

    assert str(router.owner(SHARD)) == move.target.address


@pytest.fixture
async def patient(
    cluster: EmbeddedRedisCluster, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RedisIndex]:
    """An index that waits for a move as long as it takes: how long is a matter of the machine."""
    monkeypatch.setattr(sharding.router, "_PAUSES_S", (0.01,) * 3_000)
    router = Router(
        RedisSettings(nodes=cluster.addresses, operation_timeout_s=30, response_timeout_s=30),
        rng=random.Random(1),
    )
    await router.open()
    yield RedisIndex(router)
    await router.aclose()


async def test_writers_lose_nothing_while_a_slot_moves(
    index: RedisIndex, patient: RedisIndex, keeping: RedisIndexKeeping, move: Move
) -> None:
    """50 concurrent writers during a whole move: every apply is taken and there once."""
    await build(keeping)
    xids = iter(range(101, 2601))
    moved = asyncio.Event()
    failed: list[object] = []

    async def write() -> None:
        for xid in xids:
            if xid == 1000:
                await move_all()
                moved.set()
            failed.extend(await patient.apply(xid, [change_of(item_of(16 * xid + SHARD, xid))]))

    async def move_all() -> None:
        await move.begin()
        for key in KEYS:
            await move.carry(key)
        await move.end()

    await asyncio.gather(*(write() for _ in range(50)))

    await confirm_moved(index, keeping)
    page = await index.page_at(SEASON, offset=0, limit=5000, fresh=ANY)
    assert moved.is_set()
    assert failed == []
    assert len(page.entries) == page.view.entry_count == 2500
    assert await keeping.done(SHARD, since=0, horizon=9999) == frozenset(range(101, 2601))
