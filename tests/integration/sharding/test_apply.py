"""Applies: twice, out of order, partial, and to seasons that are not there."""

from __future__ import annotations

import random

import pytest

from core.ports import Freshness, KeyRange
from core.types import EntryState
from sharding.index import RedisIndex
from sharding.keeping import RedisIndexKeeping
from tests.integration.sharding.board import SEASON, Board, build, change_of, item_of

pytestmark = pytest.mark.every_engine

ANY = Freshness()


async def listed(index: RedisIndex) -> list[bytes]:
    """All the keys the index tells, in its order."""
    window = await index.window(SEASON, b"", above=0, below=10_000, within=KeyRange(), fresh=ANY)
    return [key for key, _ in window.below]


async def test_any_order_and_any_number_of_times_give_the_same_index(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """A shuffled and doubled history with deletes ends where the history ends."""
    await build(keeping)
    rng = random.Random(11)
    board = Board()
    history = []
    for xid in range(100, 160):
        items = [board.random_item(rng, range(40)) for _ in range(8)]
        for item in items:
            board.put(item)
        history.append((xid, [change_of(item) for item in items]))
    shuffled = history * 2
    rng.shuffle(shuffled)

    for xid, changes in shuffled:
        assert await index.apply(xid, changes) == frozenset()

    assert await listed(index) == board.keys
    assert await keeping.unbuilt([SEASON]) == []


async def test_a_late_apply_does_not_bring_back_a_deleted_entry(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """The tombstone of a delete outlives it."""
    await build(keeping)
    first = item_of(5, 10, revision=1)
    await index.apply(102, [change_of(item_of(5, revision=2, state=EntryState.DELETED))])
    await index.apply(101, [change_of(first)])
    assert await listed(index) == []

    again = item_of(5, 1, revision=3)
    await index.apply(103, [change_of(again)])
    assert await listed(index) == [again.key]


async def test_the_newest_item_of_a_user_wins_within_one_apply(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """A user who stands twice in a transaction ends with the higher revision."""
    await build(keeping)
    newest = item_of(5, 3, revision=300)

    await index.apply(101, [change_of(newest), change_of(item_of(5, 9, revision=255))])

    assert await listed(index) == [newest.key]


async def test_an_apply_larger_than_a_chunk_is_whole(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """Thousands of items of one shard go in by one call."""
    await build(keeping)
    items = [item_of(16 * n, n) for n in range(2500)]

    assert await index.apply(101, [change_of(item) for item in items]) == frozenset()

    assert await listed(index) == sorted(item.key for item in items)


async def test_an_apply_tells_which_seasons_did_not_take_it(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """Shards without a mark and seasons without a guard are named; the others take it."""
    await build(keeping, shards=[0])
    good = item_of(16, 5)

    failed = await index.apply(
        101, [change_of(good), change_of(good, SEASON + 1), change_of(item_of(17, 5))]
    )

    assert failed == {(SEASON + 1, 0), (SEASON, 1)}
    entries, _ = await index.users(SEASON, [16], cutoff_bytes=32, fresh=ANY)
    assert entries[16].key == good.key


async def test_a_transaction_below_the_mark_is_accounted_for(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """What the mark covers is not applied again, and is no failure."""
    await build(keeping, horizon=100)

    assert await index.apply(99, [change_of(item_of(5, 1))]) == frozenset()

    assert await listed(index) == []
