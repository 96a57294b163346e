"""What the nodes hold of an entry, and that it is all there."""

from __future__ import annotations

from itertools import product

import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from core.ordering import Item, Ordering, encode_item
from core.types import INT64_MAX, EntryState, SortOrder
from sharding.index import RedisIndex
from sharding.keeping import RedisIndexKeeping
from sharding.keys import season_keys
from sharding.pieces import RedisIndexPieces
from sharding.router import Router
from tests.integration.sharding.board import (
    EXTREMES,
    SEASON,
    build,
    change_of,
    item_of,
    ordering,
)
from tests.integration.sharding.nodes import owner, run

pytestmark = pytest.mark.every_engine

WHOLE, SHORT = 36, 25
EDGES = (*EXTREMES, 2**47, 2**48 - 1, 2**48, -(2**48), -(2**48) - 1, 100_000)
ARRIVALS = (1, 2**48 - 1, 2**48, INT64_MAX)
TIME_MS = 1_700_000_000_123
DIRECTIONS = [ordering(*both) for both in product(SortOrder, SortOrder)]


def edges(order: Ordering) -> list[Item]:
    """Users of one shard at the ends of what is kept in one way or the other."""
    made = []
    for place, (score, subscore, arrival) in enumerate(product(EDGES, EDGES, ARRIVALS)):
        user_id = 16 * (place + 1)
        prefix = order.key(score, subscore, arrival, user_id)[:24]
        state = EntryState(place % 4) if place % 5 == 0 else EntryState.LIVE
        made.append(Item(user_id, prefix, 2**40 + place, state, TIME_MS + place))
    return made


@pytest.mark.parametrize("order", DIRECTIONS)
@pytest.mark.parametrize("how", ["built", "applied"])
async def test_every_value_is_told_as_it_was_put(
    index: RedisIndex, keeping: RedisIndexKeeping, router: Router, order: Ordering, how: str
) -> None:
    """All 36 bytes of it, whatever was kept of them, and the key where it stands."""
    items = edges(order)
    await build(keeping, items if how == "built" else ())
    if how == "applied":
        for first in range(0, len(items), 100):
            changes = [change_of(item) for item in items[first : first + 100]]
            assert await index.apply(200 + first, changes) == frozenset()

    pieces = RedisIndexPieces(router)
    told = await pieces.values(SEASON, 0, [item.user_id for item in items])
    assert [told[item.user_id].value for item in items] == [encode_item(i)[8:] for i in items]
    assert all(value.whole for value in told.values())

    live = sorted((i for i in items if i.state is EntryState.LIVE), key=lambda item: item.key)
    piece = await pieces.piece(SEASON, 0, after=b"")
    assert [item[:8] for item in piece.items] == [i.user_id.to_bytes(8) for i in live]
    assert (list(piece.items), piece.strays) == ([encode_item(item) for item in live], ())


async def test_what_an_entry_is_kept_in(
    keeping: RedisIndexKeeping, cluster: EmbeddedRedisCluster
) -> None:
    """25 bytes where there is no subscore, and in the set the key with the end of the value."""
    plain = [item_of(16, 0), item_of(32, 99_999), item_of(48, -5)]
    other = [item_of(64, 7, subscore=1), item_of(80, 2**50)]
    await build(keeping, plain + other)

    node = await owner(cluster, 0)
    h, z = season_keys(0, SEASON)
    lengths = [await run(node, "HSTRLEN", h, i.user_id.to_bytes(8)) for i in plain + other]
    assert lengths == [SHORT] * len(plain) + [WHOLE] * len(other)
    members = [item.key + item.tail for item in plain + other]
    assert await run(node, "ZMSCORE", z, "", *members) == [0.0] * (1 + len(members))
    assert await run(node, "ZCARD", z) == 1 + len(members)


@pytest.mark.parametrize("order", DIRECTIONS)
async def test_an_entry_moves_between_both_ways(
    index: RedisIndex, keeping: RedisIndexKeeping, router: Router, order: Ordering
) -> None:
    """With a subscore, without one, and hidden: its old member goes each time."""
    await build(keeping)
    steps = [(5, 0, 0), (5, 1, 0), (6, 0, 0), (2**50, 0, 0), (6, 0, 2), (6, 0, 0), (6, 0, 1)]
    for revision, (score, subscore, state) in enumerate(steps, start=1):
        item = item_of(
            16,
            score,
            subscore=subscore,
            revision=revision,
            state=EntryState(state),
            order=order,
        )
        await index.apply(200 + revision, [change_of(item)])

        piece = await RedisIndexPieces(router).piece(SEASON, 0, after=b"")
        assert piece.items == ([] if state else [encode_item(item)])
