"""Windows around points and around users, against one sorted list."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable, Sequence

import pytest

from core.ordering import Item
from core.ports import Freshness, IndexedEntry, KeyRange, Window
from core.shared_reads import SharedReads
from core.types import EntryState, shard_of
from sharding.index import RedisIndex
from sharding.keeping import RedisIndexKeeping
from sharding.router import Router
from sharding.windows import WINDOWS_MAX, Windows, WindowsTogether
from tests.integration.sharding.board import SEASON, build, change_of, item_of

pytestmark = pytest.mark.every_engine

ANY = Freshness()
OPEN = KeyRange()
SIZES = [(0, 0), (1, 0), (0, 1), (3, 5), (20, 20), (0, 400), (400, 0)]


def items_of(count: int, *, shards: Sequence[int], seed: int) -> list[Item]:
    """Items of users of some shards: four results in all, every seventh user hidden."""
    rng = random.Random(seed)
    return [
        item_of(
            16 * n + rng.choice(shards),
            rng.randrange(2),
            subscore=rng.randrange(2),
            revision=rng.randrange(1, 2**40),
            state=EntryState.HIDDEN if n % 7 == 6 else EntryState.LIVE,
        )
        for n in range(count)
    ]


def keys_of(items: Sequence[Item]) -> list[bytes]:
    """The keys of those that are shown, in rank order."""
    return sorted(item.key for item in items if item.state is EntryState.LIVE)


def keys_in(pairs: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """The keys of a window's side."""
    return [key for key, _ in pairs]


def require_window(
    found: Window, keys: Sequence[bytes], point: bytes, above: int, below: int, within: KeyRange
) -> None:
    """Holds a window against the sorted keys of its board."""
    inside = [key for key in keys if key >= within.low and (not within.high or key < within.high)]
    before = [key for key in inside if key < point]
    assert found.before == sum(key < point for key in keys)
    assert keys_in(found.above) == before[max(0, len(before) - above) :]
    assert keys_in(found.below) == [key for key in inside if key >= point][:below]
    assert found.view.entry_count == len(keys)


@pytest.mark.parametrize("shards", [range(16), [5]], ids=["all shards", "one shard"])
@pytest.mark.parametrize("count", [0, 1, 7, 60, 300])
async def test_windows_are_those_of_the_sorted_list(
    index: RedisIndex, keeping: RedisIndexKeeping, count: int, shards: Sequence[int]
) -> None:
    """At keys, behind them, at results, between and beyond all, in open and in closed ranges."""
    items = items_of(count, shards=shards, seed=count)
    keys = keys_of(items)
    await build(keeping, items)
    rng = random.Random(count)
    some = rng.sample(keys, min(6, len(keys)))
    ends = [b"", b"\0", b"\xff" * 32, *(key[:16] for key in some[:2]), *some[:2]]
    points = [b"", b"\0", b"\xff" * 33, *some, *(key + b"\0" for key in some)]
    points += [key[: rng.choice((8, 16, 20))] for key in some]

    for point in points:
        for above, below in SIZES:
            within = rng.choice([OPEN, KeyRange(rng.choice(ends), rng.choice(ends))])
            found = await index.window(
                SEASON, point, above=above, below=below, within=within, fresh=ANY
            )
            require_window(found, keys, point, above, below, within)
    revisions = {item.key: item.revision % 2**46 for item in items}
    assert all(int.from_bytes(tail) == revisions[key] for key, tail in found.below)


@pytest.mark.parametrize("shards", [range(16), [5]], ids=["all shards", "one shard"])
async def test_every_user_stands_in_the_middle_of_its_window(
    index: RedisIndex, keeping: RedisIndexKeeping, shards: Sequence[int]
) -> None:
    """The neighbours of each, of hidden ones too, who are nobody's; itself left out."""
    items = items_of(60, shards=shards, seed=1)
    keys = keys_of(items)
    await build(keeping, items)

    for item in items:
        above, below = random.Random(item.user_id).choice(SIZES)
        found = await index.window_of(SEASON, item.user_id, above=above, below=below, fresh=ANY)
        require_middle(found, item, keys, above, below)


def require_middle(
    found: tuple[IndexedEntry, Window] | None,
    item: Item,
    keys: Sequence[bytes],
    above: int,
    below: int,
) -> None:
    """Holds a user's window against the sorted keys of its board."""
    assert found is not None
    entry, window = found
    own = [k for k in keys if shard_of(int.from_bytes(k[24:])) == shard_of(item.user_id)]
    assert entry == IndexedEntry(
        item.key,
        ((item.state << 46) | item.revision).to_bytes(6),
        sum(key < item.key for key in own),
        hidden=item.state is EntryState.HIDDEN,
    )
    others = [key for key in keys if key != item.key]
    assert window.before == sum(key < item.key for key in keys)
    assert keys_in(window.above) == [key for key in others if key < item.key][-above or 999 :]
    assert keys_in(window.below) == [key for key in others if key > item.key][:below]
    assert window.view.entry_count == len(keys)


@pytest.mark.parametrize("shards", [range(16), [5], [2, 9]], ids=["all", "one", "two"])
@pytest.mark.parametrize("size", [(0, 0), (1, 0), (6, 4), (20, 20)], ids=str)
async def test_windows_that_are_asked_for_together(
    router: Router, keeping: RedisIndexKeeping, shards: Sequence[int], size: tuple[int, int]
) -> None:
    """Each has its own, whoever it is asked for with: users of one shard, of all, without an entry;
    and they are asked for with a tenth of the calls that each alone would take.
    """
    items = items_of(200, shards=shards, seed=2)
    keys = keys_of(items)
    await build(keeping, items)
    above, below = size
    together: WindowsTogether = SharedReads(lambda: None, crowd_max=WINDOWS_MAX)
    reads = 0

    async def counted(
        kind: Hashable, user_id: int, read: Callable[[Sequence[int]], Awaitable[Windows]]
    ) -> Windows:
        async def counting(user_ids: Sequence[int]) -> Windows:
            nonlocal reads
            reads += 1
            return await read(user_ids)

        return await shared(kind, user_id, counting)

    shared, together.answer = together.answer, counted  # type: ignore[method-assign]
    index = RedisIndex(router, together)

    async def ask(user_id: int) -> tuple[IndexedEntry, Window] | None:
        return await index.window_of(SEASON, user_id, above=above, below=below, fresh=ANY)

    strangers = range(10**6, 10**6 + 20)
    found = await asyncio.gather(*map(ask, [*(item.user_id for item in items), *strangers]))

    for one, item in zip(found, items, strict=False):
        require_middle(one, item, keys, above, below)
    assert found[len(items) :] == [None] * len(strangers)
    assert reads <= (len(items) + len(strangers)) / 10


async def test_who_has_no_entry_has_no_window(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """A stranger, a deleted entry and a row that only holds a lock."""
    gone = [item_of(1, state=EntryState.DELETED), item_of(2, state=EntryState.VOID)]
    await build(keeping, [item_of(4), *gone])

    for user_id in (1, 2, 3):
        found = await index.window_of(SEASON, user_id, above=2, below=2, fresh=ANY)
        assert found is None


async def test_a_shard_with_more_than_its_part_is_asked_again(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """The best and the last of a board live in one shard each, which nothing tells beforehand."""
    best = [item_of(16 * n + 3, 10**6 + n) for n in range(200)]
    rest = [item_of(n, -n) for n in range(1600, 4800)]
    last = [item_of(16 * n + 8, -(10**6) - n) for n in range(200)]
    keys = keys_of([*best, *rest, *last])
    await build(keeping, [*best, *rest, *last])

    for point in (b"", keys[100], keys[210], keys[-210], keys[-100], b"\xff" * 32):
        for size in (10, 100, 1000):
            found = await index.window(
                SEASON, point, above=size, below=size, within=OPEN, fresh=ANY
            )
            require_window(found, keys, point, size, size, OPEN)


async def test_a_window_shows_the_writes_it_was_asked_to_show(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """A user that moved is where it is now, and only there."""
    await build(keeping, [item_of(n, n) for n in range(100)])
    await index.apply(200, [change_of(item_of(50, 1000, revision=2))])
    fresh = Freshness({shard_of(50): (200,)})

    found = await index.window_of(SEASON, 50, above=1, below=1, fresh=fresh)
    top = await index.window(SEASON, b"", above=0, below=100, within=OPEN, fresh=fresh)

    assert found is not None
    assert found[1].before == 0
    assert [int.from_bytes(key[24:]) for key in keys_in(top.below)][:2] == [50, 99]
    assert len({key[24:] for key in keys_in(top.below)}) == 100
