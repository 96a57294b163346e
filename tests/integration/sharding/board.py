"""A board as one plain dict, to hold the index against."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from core.ordering import Item, Ordering, encode_item
from core.ports import LedgerPoint
from core.types import INT64_MAX, INT64_MIN, EntryState, IndexChange, SortOrder, shard_of
from sharding.keeping import RedisIndexKeeping
from sharding.keys import SHARDS

SEASON = 7
LEDGER = b"a ledger"
EXTREMES = (INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX)


def ordering(score: SortOrder, subscore: SortOrder) -> Ordering:
    """An ordering of two directions."""
    flips = {SortOrder.ASCENDING: INT64_MIN, SortOrder.DESCENDING: INT64_MAX}
    return Ordering(flips[score], flips[subscore])


HIGH_FIRST = ordering(SortOrder.DESCENDING, SortOrder.ASCENDING)


def item_of(
    user_id: int,
    score: int = 0,
    *,
    revision: int = 1,
    subscore: int = 0,
    state: EntryState = EntryState.LIVE,
    order: Ordering = HIGH_FIRST,
) -> Item:
    """An item of a user; the revision is its arrival and its time too."""
    key = order.key(score, subscore, revision, user_id)
    return Item(user_id, key[:24], revision, state, revision)


def change_of(item: Item, season_number: int = SEASON) -> IndexChange:
    """The change that carries an item."""
    return IndexChange(season_number, shard_of(item.user_id), encode_item(item))


class Board:
    """What the index should hold: per user the item with the highest revision."""

    def __init__(self, order: Ordering = HIGH_FIRST) -> None:
        self.order = order
        self.items: dict[int, Item] = {}

    def put(self, item: Item) -> None:
        """Takes an item, in any order."""
        other = self.items.get(item.user_id)
        if other is None or other.revision < item.revision:
            self.items[item.user_id] = item

    @property
    def keys(self) -> list[bytes]:
        """The keys of live entries in rank order."""
        return sorted(item.key for item in self.items.values() if item.state is EntryState.LIVE)

    def random_item(self, rng: random.Random, user_ids: Sequence[int]) -> Item:
        """The next item of some user: mostly ties, sometimes the ends of int64."""
        user_id = rng.choice(user_ids)
        old = self.items.get(user_id)
        return item_of(
            user_id,
            rng.choice((*range(3), *EXTREMES)),
            subscore=rng.choice((0, 0, 0, *EXTREMES)),
            revision=1 if old is None else old.revision + 1,
            state=EntryState(rng.choice((0, 0, 0, 0, 1, 2, 3))),
            order=self.order,
        )


async def build(
    keeping: RedisIndexKeeping,
    items: Iterable[Item] = (),
    *,
    season_number: int = SEASON,
    shards: Iterable[int] = SHARDS,
    horizon: int = 100,
) -> None:
    """Builds a season out of some items, as the builder does."""
    by_shard: dict[int, list[bytes]] = {}
    for item in items:
        by_shard.setdefault(shard_of(item.user_id), []).append(encode_item(item))
    for shard in shards:
        blob = b"".join(by_shard.get(shard, []))
        assert await keeping.begin(
            season_number, shard, token="t", start=LedgerPoint(horizon, LEDGER)
        )
        assert await keeping.load(season_number, shard, token="t", chunk=0, items=blob)
        assert await keeping.swap(season_number, shard, token="t", chunks=1)


async def confirm(keeping: RedisIndexKeeping) -> None:
    """Lets every shard answer, as the healer does when it has brought what may have been lost."""
    for status in await keeping.shards([]):
        if status.reachable and not status.confirmed:
            assert await keeping.confirm(status.shard, status.history)
