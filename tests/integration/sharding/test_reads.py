"""Every read against one sorted list."""

from __future__ import annotations

import random
from itertools import product

import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from core.errors import IndexUnbuilt, ReadBehind
from core.ordering import RESULT_BYTES
from core.ports import Clock, Freshness, IndexView, KeyRange
from core.types import EntryState, SortOrder, shard_of
from sharding.index import RedisIndex
from sharding.keeping import RedisIndexKeeping
from sharding.keys import SHARDS, meta_key, season_keys
from sharding.router import Router
from tests.integration.sharding.board import (
    SEASON,
    Board,
    build,
    change_of,
    item_of,
    ordering,
)
from tests.integration.sharding.nodes import owner, run

pytestmark = pytest.mark.every_engine

ANY = Freshness()
DIRECTIONS = list(product(SortOrder, SortOrder))


class AtTime:
    """A clock that stands still at a time of its own."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """That time."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """A fixed moment."""
        return 1.0


async def fill(index: RedisIndex, board: Board, *, seed: int, count: int) -> list[int]:
    """Puts random items into the index and the board; returns the users."""
    rng = random.Random(seed)
    users = [rng.randrange(2**63) for _ in range(count // 3)]
    for xid in range(100, 105):
        changes = []
        for _ in range(count // 5):
            item = board.random_item(rng, users)
            board.put(item)
            changes.append(change_of(item))
        assert await index.apply(xid, changes) == frozenset()
    return users


@pytest.mark.parametrize(("score", "subscore"), DIRECTIONS)
async def test_users_and_ranks_are_those_of_the_sorted_list(
    index: RedisIndex, keeping: RedisIndexKeeping, score: SortOrder, subscore: SortOrder
) -> None:
    """Each entry, and each count before it by key and by result, is what the list says."""
    await build(keeping)
    board = Board(ordering(score, subscore))
    users = await fill(index, board, seed=3, count=600)
    keys = board.keys

    for cutoff_bytes in (RESULT_BYTES, 32):
        entries, view = await index.users(SEASON, users, cutoff_bytes=cutoff_bytes, fresh=ANY)
        counts, _ = await index.count_before(
            SEASON,
            [entry.key[:cutoff_bytes] for entry in entries.values()],
            shards=SHARDS,
            fresh=ANY,
        )
        ranks = [sum(column) for column in zip(*counts, strict=True)]

        assert view.entry_count == len(keys)
        told = {EntryState.LIVE: set(), EntryState.HIDDEN: set()}
        for item in board.items.values():
            told.setdefault(item.state, set()).add(item.key)
        assert {e.key for e in entries.values() if e.hidden} == told[EntryState.HIDDEN]
        assert {e.key for e in entries.values() if not e.hidden} == set(keys)
        for (user_id, entry), rank in zip(entries.items(), ranks, strict=True):
            cutoff = entry.key[:cutoff_bytes]
            before = [key for key in keys if key < cutoff]
            own = [key for key in before if shard_of(int.from_bytes(key[24:])) == user_id % 16]
            assert (rank, entry.before_in_shard) == (len(before), len(own))
            assert int.from_bytes(entry.tail) % 2**46 == board.items[user_id].revision


async def test_counts_of_many_cutoffs_keep_their_order(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """Cutoffs of several lengths, more than one call takes, are each counted."""
    await build(keeping)
    board = Board()
    await fill(index, board, seed=5, count=400)
    keys = board.keys
    cutoffs = [key[:length] for key in keys for length in (32, 16, 16, 9)] + [b"", b"\xff" * 32]

    counts, view = await index.count_before(SEASON, cutoffs, shards=SHARDS, fresh=ANY)

    found = [sum(column) for column in zip(*counts, strict=True)]
    assert found == [sum(key < cutoff for key in keys) for cutoff in cutoffs]
    assert view.entry_count == len(keys)


async def test_an_empty_season_is_an_answer(
    index: RedisIndex, keeping: RedisIndexKeeping, clock: Clock
) -> None:
    """A season that was built of nothing counts 0, and has the epoch and time of its build."""
    await build(keeping, horizon=123)

    counts, view = await index.count_before(SEASON, [], shards=[0, 9], fresh=ANY)
    entries, _ = await index.users(SEASON, [1, 2], cutoff_bytes=32, fresh=ANY)

    assert ([list(row) for row in counts], view) == ([[], []], IndexView(123, 0, clock.now_ms()))
    assert entries == {}


async def test_a_season_that_is_not_there_is_no_answer(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """Neither an empty Redis nor one that holds another season is an empty board."""
    for _ in range(2):
        with pytest.raises(IndexUnbuilt):
            await index.page_at(SEASON, offset=0, limit=10, fresh=ANY)
        await build(keeping, season_number=SEASON + 1)


@pytest.mark.parametrize("lost", [0, 1])
async def test_a_season_that_lost_a_key_is_no_answer(
    index: RedisIndex, keeping: RedisIndexKeeping, cluster: EmbeddedRedisCluster, lost: int
) -> None:
    """A shard whose hash or whose set vanished says so, even where it was empty."""
    await build(keeping)
    await run(await owner(cluster, 2), "DEL", season_keys(2, SEASON)[lost])

    with pytest.raises(IndexUnbuilt):
        await index.page_at(SEASON, offset=0, limit=10, fresh=ANY)
    assert await keeping.unbuilt([SEASON]) == [(SEASON, 2)]


async def test_a_season_that_lost_an_entry_is_no_answer(
    index: RedisIndex, keeping: RedisIndexKeeping, cluster: EmbeddedRedisCluster
) -> None:
    """A set with another count than the guard's is broken; an apply to it fails for its season."""
    item = item_of(16, 5)
    await build(keeping, [item])
    await run(await owner(cluster, 0), "ZREM", season_keys(0, SEASON)[1], item.key + item.tail)

    with pytest.raises(IndexUnbuilt):
        await index.users(SEASON, [16], cutoff_bytes=32, fresh=ANY)
    assert await index.apply(200, [change_of(item_of(32, 1))]) == {(SEASON, 0)}


async def test_a_read_waits_for_its_transactions(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """A later transaction does not stand in for an earlier one; the mark and the set both do."""
    await build(keeping, horizon=100)
    fresh = Freshness({1: (99, 110), 2: (50,)})
    assert await index.apply(111, [change_of(item_of(1, 5))]) == frozenset()

    with pytest.raises(ReadBehind):
        await index.users(SEASON, [1, 2], cutoff_bytes=32, fresh=fresh)
    await index.apply(110, [change_of(item_of(17, 5))])
    entries, _ = await index.users(SEASON, [1, 2], cutoff_bytes=32, fresh=fresh)
    assert list(entries) == [1]


async def test_hidden_users_are_told_apart_and_count_for_nobody(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """A hidden entry has the place it would have; deleted ones and locked rows have none."""
    items = [item_of(16 * n, n, state=EntryState(n)) for n in range(4)]
    await build(keeping, items)

    entries, view = await index.users(
        SEASON, [item.user_id for item in items], cutoff_bytes=32, fresh=ANY
    )

    told = {user: (entry.hidden, entry.before_in_shard) for user, entry in entries.items()}
    assert told == {0: (False, 0), 32: (True, 0)}
    assert view.entry_count == 1


async def test_a_view_tells_the_mark_that_is_furthest_behind(
    index: RedisIndex, router: Router
) -> None:
    """The smallest time of all the shards asked; 0 if one of them has none."""
    for shard in SHARDS:
        await build(RedisIndexKeeping(router, AtTime(1000 - shard)), shards=[shard])

    _, of_all = await index.count_before(SEASON, [], shards=SHARDS, fresh=ANY)
    _, of_two = await index.users(SEASON, [3, 4], cutoff_bytes=32, fresh=ANY)
    window = await index.window(SEASON, b"", above=1, below=1, within=KeyRange(), fresh=ANY)
    await router.call_shards({5: (b"HDEL", meta_key(5), b"T")}, router.deadline())
    page = await index.page_at(SEASON, offset=10_000, limit=1, fresh=ANY)

    assert (of_all.caught_up_ms, of_two.caught_up_ms) == (985, 996)
    assert (window.view.caught_up_ms, page.view.caught_up_ms) == (985, 0)
