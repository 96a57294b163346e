"""Pages at any depth, against one sorted list."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from core.errors import IndexUnavailable
from core.ports import Freshness, PageSlice
from core.types import EntryState
from sharding.index import RedisIndex
from sharding.keeping import RedisIndexKeeping
from sharding.reading import SeasonRead
from tests.integration.sharding.board import SEASON, build, change_of, item_of

ANY = Freshness()
SPREADS = ("independent", "one shard", "one shard after the other")


def user_at(place: int, count: int, spread: str, rng: random.Random) -> int:
    """A user for a place in a board, in the shard that the spread gives it."""
    shard = {
        "independent": rng.randrange(16),
        "one shard": 5,
        "one shard after the other": place * 16 // count,
    }[spread]
    return 16 * place + shard


async def fill(keeping: RedisIndexKeeping, count: int, spread: str) -> list[bytes]:
    """Builds a board of a size, three users to a result; returns its keys in order."""
    rng = random.Random(count)
    items = [
        item_of(user_at(place, count, spread, rng), -(place // 3), revision=rng.randrange(1, 2**40))
        for place in range(count)
    ]
    await build(keeping, items)
    return sorted(item.key for item in items)


def require_page(page: PageSlice, keys: Sequence[bytes], offset: int, limit: int) -> None:
    """Holds a page against the sorted keys of its board."""
    assert [key for key, _ in page.entries] == list(keys[offset : offset + limit])
    assert page.before == min(offset, len(keys))
    assert page.view.entry_count == len(keys)


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The functions asked so far, a round trip each."""
    asked: list[str] = []
    ask = SeasonRead.ask

    async def counted(self: SeasonRead, function: str, *args: object) -> object:
        asked.append(function)
        return await ask(self, function, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(SeasonRead, "ask", counted)
    return asked


@pytest.mark.every_engine
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("count", [0, 1, 40, 300])
async def test_small_boards_have_the_pages_of_the_sorted_list(
    index: RedisIndex,
    keeping: RedisIndexKeeping,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    spread: str,
) -> None:
    """From every depth, past the end too, with all of them narrowed down and with none."""
    keys = await fill(keeping, count, spread)
    for rows_max in (0, 1000):
        monkeypatch.setattr("sharding.deep_pages._TOP_ROWS_MAX", rows_max)
        for offset in {0, 1, count // 3, count - 2, count - 1, count, count + 1, 9999}:
            for limit in (0, 1, 10, 1000):
                if offset >= 0:
                    page = await index.page_at(SEASON, offset=offset, limit=limit, fresh=ANY)
                    require_page(page, keys, offset, limit)


@pytest.mark.both_engines
@pytest.mark.parametrize("spread", SPREADS)
async def test_a_deep_page_takes_few_trips(
    index: RedisIndex, keeping: RedisIndexKeeping, trips: list[str], spread: str
) -> None:
    """One near the top, and else two, of one board of 20,000; up to three where the shards differ
    from place to place, or where nothing is known yet.
    """
    count = 20_000
    keys = await fill(keeping, count, spread)
    rng = random.Random(2)
    offsets = [0, 100, 999, count // 2, count - 10, *(rng.randrange(count) for _ in range(20))]
    for number, offset in enumerate(offsets):
        trips.clear()
        page = await index.page_at(SEASON, offset=offset, limit=10, fresh=ANY)
        require_page(page, keys, offset, 10)
        if number > 2:
            allowed = 3 if spread == "one shard after the other" else 2
            assert len(trips) <= allowed, (offset, trips)


@pytest.mark.both_engines
@pytest.mark.parametrize("come", [True, False])
async def test_a_place_that_ran_away_is_looked_for_again(
    index: RedisIndex, keeping: RedisIndexKeeping, monkeypatch: pytest.MonkeyPatch, *, come: bool
) -> None:
    """2,000 entries that come or go above, between two trips, push the wanted ones out of reach;
    the page is then that of the board as it is now, and its count too.
    """
    keys = await fill(keeping, 6000, "independent")
    if come:
        moved = [item_of(200_000 + n, 10, revision=n + 1) for n in range(2000)]
        after = sorted([*keys, *(item.key for item in moved)])
    else:
        users = [int.from_bytes(key[24:]) for key in keys[:2000]]
        moved = [item_of(user, revision=2**41, state=EntryState.DELETED) for user in users]
        after = keys[2000:]
    ask = SeasonRead.ask
    asked: list[str] = []

    async def disturbed(self: SeasonRead, function: str, *args: object) -> object:
        if asked == ["grid"]:
            await index.apply(200, [change_of(item) for item in moved])
        asked.append(function)
        return await ask(self, function, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(SeasonRead, "ask", disturbed)

    page = await index.page_at(SEASON, offset=3000, limit=50, fresh=ANY)

    require_page(page, after, 3000, 50)
    assert asked.count("window") > 1


async def test_the_search_for_a_place_ends(
    index: RedisIndex,
    keeping: RedisIndexKeeping,
    monkeypatch: pytest.MonkeyPatch,
    trips: list[str],
) -> None:
    """Where no bracket ever gets small enough, it gives up after eight trips."""
    await fill(keeping, 2000, "independent")
    monkeypatch.setattr("sharding.deep_pages._EXTRA_ROWS_MAX", -1000)

    with pytest.raises(IndexUnavailable):
        await index.page_at(SEASON, offset=1500, limit=1, fresh=ANY)

    assert trips == ["grid"] * 8


@pytest.mark.both_engines
async def test_pages_skip_and_double_nobody_while_others_move(
    index: RedisIndex, keeping: RedisIndexKeeping
) -> None:
    """While every third entry jumps about, each page has all the others between its first and its
    last entry, once and in order, and counts as many before it as there can be.
    """
    count = 3000
    movers = [16 * place + place % 16 for place in range(0, count, 3)]
    await build(keeping, [item_of(16 * place + place % 16, -place) for place in range(count)])
    still = [
        key
        for key, _ in (await index.page_at(SEASON, offset=0, limit=count, fresh=ANY)).entries
        if int.from_bytes(key[24:]) not in movers
    ]
    reading = True

    async def move() -> None:
        rng = random.Random(4)
        revision = 1
        while reading:
            revision += 1
            changes = [
                change_of(item_of(user, -rng.randrange(count), revision=revision))
                for user in rng.sample(movers, 20)
            ]
            assert await index.apply(200 + revision, changes) == frozenset()

    async def read() -> None:
        rng = random.Random(5)
        for _ in range(150):
            offset, limit = rng.randrange(count), rng.choice((10, 200))
            page = await index.page_at(SEASON, offset=offset, limit=limit, fresh=ANY)
            keys = [key for key, _ in page.entries]
            assert (page.before, len(keys)) == (offset, min(limit, count - offset))
            assert keys == sorted(set(keys))
            shown = set(keys)
            assert all(key in shown for key in still if keys[0] <= key <= keys[-1])
            above = sum(key < keys[0] for key in still)
            assert above <= page.before <= above + len(movers)

    moving = asyncio.create_task(move())
    await read()
    reading = False
    await moving
