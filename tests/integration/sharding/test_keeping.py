"""Checkpoints and builds."""

from __future__ import annotations

import asyncio

import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from core.ordering import encode_item
from core.ports import Checkpoint, Freshness, LedgerPoint
from core.types import EntryState, IndexChange
from sharding.index import RedisIndex
from sharding.keeping import RedisIndexKeeping
from sharding.keys import SLOTS, copy_keys
from tests.integration.sharding.board import LEDGER, SEASON, build, change_of, item_of
from tests.integration.sharding.nodes import owner, primaries, run

pytestmark = pytest.mark.every_engine

ANY = Freshness()
BIG = 2**52


async def test_the_mark_moves_only_over_transactions_that_are_in(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """A wrong start, a wrong count and a step back are refused; then the mark moves and trims."""
    await build(keeping, horizon=BIG)
    for xid in (BIG + 1, BIG + 3, BIG + 9):
        await index.apply(xid, [change_of(item_of(16, revision=xid - BIG))])

    assert await keeping.done(0, since=BIG, horizon=BIG + 9) == {BIG + 1, BIG + 3}
    assert not await keeping.checkpoint(0, Checkpoint(BIG + 1, BIG + 9, 1, LEDGER, None))
    assert not await keeping.checkpoint(0, Checkpoint(BIG, BIG + 9, 3, LEDGER, None))
    assert not await keeping.checkpoint(0, Checkpoint(BIG, BIG - 1, 0, LEDGER, None))
    assert await keeping.checkpoint(0, Checkpoint(BIG, BIG + 9, 2, LEDGER, None))
    assert not await keeping.checkpoint(0, Checkpoint(BIG, BIG + 9, 2, LEDGER, None))
    assert await keeping.done(0, since=0, horizon=BIG + 99) == {BIG + 9}
    status = (await keeping.shards([SEASON]))[0]
    assert (status.checkpoint, status.checkpoint_time_ms) == (BIG + 9, 1_700_000_000_000)


async def test_a_shards_time_moves_with_its_mark_and_never_back(keeping: RedisIndexKeeping) -> None:
    """Where no time is known, or an earlier one, it stays as it was."""
    await build(keeping, horizon=100)
    (made_ms,) = {status.checkpoint_time_ms for status in await keeping.shards([SEASON])}
    assert made_ms is not None
    seen = []
    for horizon, time_ms in ((101, None), (102, made_ms + 5), (103, made_ms + 1), (104, None)):
        assert await keeping.checkpoint(0, Checkpoint(horizon - 1, horizon, 0, LEDGER, time_ms))
        status = (await keeping.shards([SEASON]))[0]
        assert status.checkpoint == horizon
        seen.append(status.checkpoint_time_ms)

    assert seen == [made_ms, made_ms + 5, made_ms + 5, made_ms + 5]


async def test_no_mark_is_moved_on_an_empty_node(keeping: RedisIndexKeeping) -> None:
    """A shard without a mark refuses one: only a build gives it its first."""
    assert not await keeping.checkpoint(3, Checkpoint(0, 5, 0, LEDGER, None))
    assert (await keeping.shards([]))[3].checkpoint is None


async def test_a_replay_stands_for_its_transactions(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """Thousands of items count for every transaction given, seasons that are not held aside."""
    await build(keeping, shards=[4])
    changes = [change_of(item_of(16 * n + 4, n)) for n in range(2100)]
    other = change_of(item_of(4, 1), SEASON + 1)

    assert await keeping.replay(4, [101, 102], [*changes, other])
    assert await keeping.replay(4, [103], [])

    assert await keeping.done(4, since=100, horizon=200) == {101, 102, 103}
    assert (await keeping.shards([SEASON]))[4].entry_count == 2100
    assert not await keeping.replay(5, [101], [])


async def test_the_state_of_the_shards_is_told(
    index: RedisIndex, keeping: RedisIndexKeeping, cluster: EmbeddedRedisCluster
) -> None:
    """Owner, mark, entries and builds of each shard; seasons beyond one call are looked at too."""
    await build(keeping, [item_of(16, 1), item_of(32, 1), item_of(1, 1)])
    await keeping.begin(SEASON, 9, token="x", start=LedgerPoint(1, LEDGER))
    seasons = [*range(1000, 1600), SEASON]

    statuses = await keeping.shards(seasons)

    owners = {node.address for node in await primaries(cluster)}
    assert [status.slot for status in statuses] == list(SLOTS)
    assert {status.node_address for status in statuses} == owners
    assert [status.entry_count for status in statuses] == [2, 1, *[0] * 14]
    assert [status.shard for status in statuses if status.building] == [9]
    assert all(status.reachable and status.checkpoint == 100 for status in statuses)
    assert len(await keeping.unbuilt(seasons)) == 600 * 16


async def test_a_build_takes_only_its_own_chunks_in_order(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """Another token, a skipped chunk and an early swap are refused; the last chunk may repeat."""
    blob = encode_item(item_of(16, 5))
    assert not await keeping.load(SEASON, 0, token="a", chunk=0, items=blob)
    assert await keeping.begin(SEASON, 0, token="a", start=LedgerPoint(100, LEDGER))
    assert not await keeping.load(SEASON, 0, token="b", chunk=0, items=blob)
    assert not await keeping.load(SEASON, 0, token="a", chunk=1, items=blob)
    assert await keeping.load(SEASON, 0, token="a", chunk=0, items=blob)
    assert await keeping.load(SEASON, 0, token="a", chunk=0, items=blob)
    assert not await keeping.swap(SEASON, 0, token="a", chunks=2)
    assert not await keeping.swap(SEASON, 0, token="b", chunks=1)
    assert await keeping.unbuilt([SEASON]) == [(SEASON, shard) for shard in range(16)]

    assert await keeping.swap(SEASON, 0, token="a", chunks=1)

    assert (SEASON, 0) not in await keeping.unbuilt([SEASON])
    assert not await keeping.swap(SEASON, 0, token="a", chunks=1)


async def test_a_build_that_lost_its_copy_starts_again(
    keeping: RedisIndexKeeping, cluster: EmbeddedRedisCluster
) -> None:
    """A copy with a key gone takes no chunk and is not put in place."""
    await keeping.begin(SEASON, 0, token="a", start=LedgerPoint(100, LEDGER))
    await run(await owner(cluster, 0), "DEL", copy_keys(0, SEASON)[1])

    assert not await keeping.load(SEASON, 0, token="a", chunk=0, items=b"")
    assert not await keeping.swap(SEASON, 0, token="a", chunks=0)


async def test_applies_during_a_build_are_in_its_copy(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """Concurrent applies are neither lost in the swap nor undone by the older rows loaded."""
    await build(keeping, [item_of(16 * n, 1) for n in range(300)], shards=[0])
    rows = [encode_item(item_of(16 * n, 1)) for n in range(300)]
    await keeping.begin(SEASON, 0, token="b", start=LedgerPoint(100, LEDGER))

    async def load() -> None:
        for chunk in range(30):
            part = b"".join(rows[chunk * 10 : chunk * 10 + 10])
            assert await keeping.load(SEASON, 0, token="b", chunk=chunk, items=part)

    async def write(n: int) -> None:
        state = EntryState.DELETED if n % 3 == 0 else EntryState.LIVE
        change = change_of(item_of(16 * n, 2, revision=2, state=state))
        other = IndexChange(SEASON + 1, 0, change.item)
        assert await index.apply(101 + n, [change, other]) == {(SEASON + 1, 0)}

    await asyncio.gather(load(), *(write(n) for n in range(0, 300, 2)))
    assert await keeping.swap(SEASON, 0, token="b", chunks=30)

    ids = [16 * n for n in range(300)]
    entries, view = await index.users(SEASON, ids, cutoff_bytes=32, fresh=ANY)
    assert set(entries) == {16 * n for n in range(300) if n % 2 or n % 3}
    assert all(int.from_bytes(e.tail) == 1 + (u // 16 + 1) % 2 for u, e in entries.items())
    assert (view.epoch, view.entry_count) == (101, 250)


async def test_a_dropped_season_is_unbuilt(keeping: RedisIndexKeeping) -> None:
    """Nothing of it stays, and dropping it again is fine."""
    await build(keeping, [item_of(16, 1)])
    await keeping.begin(SEASON, 3, token="x", start=LedgerPoint(1, LEDGER))

    await keeping.drop(SEASON)
    await keeping.drop(SEASON)

    assert len(await keeping.unbuilt([SEASON])) == 16
    assert not any(status.building for status in await keeping.shards([]))
