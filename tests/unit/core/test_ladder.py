"""The ladder: whatever shards are lost on whatever rung, answers are right and say how they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.batch_get_entries import BatchGetEntries
from core.clock import SystemClock
from core.errors import (
    EntryNotFound,
    IndexUnavailable,
    IndexUnbuilt,
    ReadBehind,
    Staleness,
    Unavailable,
)
from core.get_entry import GetEntry
from core.ladder import Ladder
from core.list_entries import ListEntries
from core.list_entries_around import ListEntriesAround
from core.ports import Freshness, IndexView
from core.reading import Reading
from core.types import (
    ALL_SHARDS,
    Board,
    EntryState,
    Exactness,
    RankMode,
    ReadOptions,
    ScorePoint,
    ScoreRange,
    Season,
    Source,
)
from tests.fakes.making import board_spec
from tests.fakes.memory_index import MemoryIndex, reading_of

BOARD = Board(1, board_spec(), Season(1, "s1"), 1, 0, 0)
NOW_MS = SystemClock().now_ms()

shard_sets = st.sets(st.integers(0, 15), max_size=16)


@dataclass
class Stair:
    """Three rungs that know the same 60 entries, some of them hidden, and one that is whole."""

    index: MemoryIndex = field(default_factory=MemoryIndex)
    database: MemoryIndex = field(
        default_factory=lambda: MemoryIndex(view=IndexView(0, 0, source=Source.DATABASE))
    )
    snapshot: MemoryIndex = field(
        default_factory=lambda: MemoryIndex(
            view=IndexView(0, 0, source=Source.SNAPSHOT, snapshot_ms=NOW_MS - 3_000)
        )
    )
    whole: MemoryIndex = field(default_factory=MemoryIndex)

    def __post_init__(self) -> None:
        for rung in (self.index, self.database, self.snapshot, self.whole):
            for user in range(1, 61):
                state = EntryState.HIDDEN if user % 13 == 0 else EntryState.LIVE
                rung.put(BOARD, (user, user // 3, 0), arrival=user, state=state)

    @property
    def ladder(self) -> Ladder:
        """The three of them."""
        return Ladder(self.index, self.database, self.snapshot)

    @property
    def reading(self) -> Reading:
        """A reading that climbs down."""
        reading = reading_of(self.ladder, BOARD)
        return Reading(
            boards=reading.boards,
            entries=self.ladder,
            ledger=reading.ledger,
            signer=reading.signer,
            clock=reading.clock,
            partial_entries=self.ladder.allowing_partial(),
        )


async def told(reading: Reading, options: ReadOptions) -> list[Any]:
    """What a reading says to a set of questions, as far as it does not depend on its source."""
    page, around = ListEntries(reading), ListEntriesAround(reading)
    asked = {"page_token": "", "start_rank": None, "scores": ScoreRange(), "options": options}
    questions = (
        page("board", page_size=7, **asked),
        page("board", page_size=5, **{**asked, "start_rank": 20}),
        page("board", page_size=5, **{**asked, "scores": ScoreRange(3, 9)}),
        around("board", 17, above=3, below=4, options=options),
        around("board", ScorePoint(8), above=2, below=2, options=options),
    )
    answers = [[(e.standing.user_id, e.rank) for e in (await each).entries] for each in questions]
    entry, _ = await GetEntry(reading)("board", 41, options)
    batch = await BatchGetEntries(reading)("board", [3, 13, 44, 99], options)
    friends = [(e.standing.user_id, e.rank, e.list_rank) for e in batch.entries]
    return [*answers, (entry.rank, entry.standing.score), friends, list(batch.missing_user_ids)]


@settings(max_examples=60, deadline=None)
@given(index_lost=shard_sets, database_lost=shard_sets, mode=st.sampled_from(RankMode))
async def test_lost_shards_are_filled_from_below(
    index_lost: set[int], database_lost: set[int], mode: RankMode
) -> None:
    """Whatever is lost above, the answers are those of a whole board."""
    stair = Stair()
    stair.index.lost, stair.database.lost = index_lost, database_lost
    options = ReadOptions(rank_mode=mode)

    assert await told(stair.reading, options) == await told(reading_of(stair.whole, BOARD), options)


@pytest.mark.parametrize(
    ("index_lost", "database_lost", "source", "missing"),
    [
        (set(), set(ALL_SHARDS), Source.INDEX, ()),
        ({3, 5}, set(), Source.DATABASE, (3, 5)),
        (set(range(9)), set(), Source.DATABASE, ALL_SHARDS),
        ({3, 5}, {5}, Source.SNAPSHOT, (3, 5)),
        (set(ALL_SHARDS), set(ALL_SHARDS), Source.SNAPSHOT, ALL_SHARDS),
    ],
)
async def test_an_answer_says_where_it_comes_from(
    index_lost: set[int], database_lost: set[int], source: Source, missing: tuple[int, ...]
) -> None:
    """The worst source, and the shards that the index lacked; most of them lost is all lost."""
    stair = Stair()
    stair.index.lost, stair.database.lost = index_lost, database_lost

    page = await ListEntries(stair.reading)(
        "board",
        page_size=3,
        page_token="",
        start_rank=None,
        scores=ScoreRange(),
        options=ReadOptions(),
    )

    assert (page.meta.source, page.meta.shards_missing) == (source, tuple(missing))
    assert page.meta.exactness is Exactness.EXACT
    old = page.meta.staleness_ms >= 3_000 and page.meta.as_of_ms == NOW_MS - 3_000
    assert old == (source is Source.SNAPSHOT)
    assert page.meta.entry_count == 56


async def test_every_rung_leaves_the_next_ones_some_time() -> None:
    """The index as much as PostgreSQL may need, that as much as a snapshot may; nobody is left
    behind the last one.
    """
    stair, given = Stair(), list[tuple[str, str]]()
    at = ContextVar("at", default="all")

    @contextmanager
    def giving(what: str) -> Iterator[None]:
        token = at.set(what)
        try:
            yield
        finally:
            at.reset(token)

    for name in ("index", "database", "snapshot"):
        rung = getattr(stair, name)
        users = rung.users

        async def noted(*asked: Any, name: str = name, users: Any = users, **how: Any) -> Any:
            given.append((name, at.get()))
            return await users(*asked, **how)

        rung.users = noted
        rung.lost = set(ALL_SHARDS) if name != "snapshot" else set()
    ladder = replace(stair.ladder, hurry=partial(giving, "hurry"), spare=partial(giving, "spare"))
    await ladder.users(1, [41], cutoff_bytes=32, fresh=Freshness())

    assert given == [("index", "hurry"), ("database", "spare"), ("snapshot", "all")]


async def test_an_old_snapshot_is_refused_to_who_wants_a_fresh_answer() -> None:
    """With the reason STALENESS."""
    stair = Stair()
    stair.index.lost = stair.database.lost = set(ALL_SHARDS)

    with pytest.raises(Staleness):
        await GetEntry(stair.reading)("board", 1, ReadOptions(max_staleness_ms=2_000))


async def test_bounds_of_all_parts_add_up() -> None:
    """A rank that is known roughly is an interval, never an exact one."""
    stair = Stair()
    stair.index.lost = {1}
    stair.database.view = IndexView(0, 0, source=Source.DATABASE, fewer=2, more=5)

    entry, meta = await GetEntry(stair.reading)("board", 41, ReadOptions())
    _, other = await GetEntry(stair.reading)("board", 33, ReadOptions())

    assert (meta.exactness, meta.fewer, meta.more) == (Exactness.INTERVAL, 2, 5)
    assert entry.rank == 20
    # The user's own shard: its entry and the count of the others are two reads of the same rung.
    assert (other.fewer, other.more) == (4, 10)


async def test_an_own_write_that_the_index_lacks_is_read_from_the_database() -> None:
    """After the little while that a write takes to arrive; a snapshot would not do."""
    stair = Stair()
    stair.index.lost, stair.index.error = {1}, ReadBehind

    entry, meta = await GetEntry(stair.reading)("board", 1, ReadOptions())

    assert (entry.rank, meta.source, meta.shards_missing) == (55, Source.DATABASE, (1,))
    assert stair.index.asked.count("users") > 1


async def test_nobody_answers_for_a_shard() -> None:
    """Then the read fails, with what the last rung said; that there is no entry it cannot say."""
    stair = Stair()
    stair.index.lost, stair.index.error = {1}, IndexUnbuilt
    stair.database.lost = stair.snapshot.lost = {1}

    for user_id in (1, 2, 17):
        with pytest.raises(Unavailable):
            await GetEntry(stair.reading)("board", user_id, ReadOptions())
    with pytest.raises(EntryNotFound):
        await GetEntry(stair_without(1).reading)("board", 98, ReadOptions())


def stair_without(shard: int) -> Stair:
    """One whose index has lost a shard."""
    stair = Stair()
    stair.index.lost = {shard}
    return stair


async def test_a_shard_is_left_out_where_the_caller_allows_it() -> None:
    """Its entries are missing, ranks are intervals that hold the true ones, and it is named."""
    stair = stair_without(1)
    stair.database.lost = {1}
    stair.snapshot = OnlyCounts.like(stair.snapshot)
    options = ReadOptions(allow_partial=True)

    page = await ListEntries(stair.reading)(
        "board", page_size=60, page_token="", start_rank=None, scores=ScoreRange(), options=options
    )
    entry, meta = await GetEntry(stair.reading)("board", 2, options)

    lost = {1, 17, 33, 49}
    assert not lost & {each.standing.user_id for each in page.entries}
    assert (page.meta.exactness, page.meta.shards_missing) == (Exactness.INTERVAL, (1,))
    assert page.meta.more == len(lost)
    assert entry.rank <= 56 <= entry.rank + meta.more
    with pytest.raises(IndexUnavailable):
        await GetEntry(stair.reading)("board", 17, options)


class OnlyCounts(MemoryIndex):
    """A snapshot that has no entries of the shard, but knows how many there are."""

    @classmethod
    def like(cls, other: MemoryIndex) -> OnlyCounts:
        """With the same entries."""
        return cls(items=other.items, lost={1}, view=other.view)

    async def count_before(self, *args: Any, **kwargs: Any) -> Any:
        """Answered for all shards where the whole shard is asked for."""
        lost, self.lost = self.lost, set()
        try:
            if len(args[1]) == 1 and args[1][0].startswith(b"\xff" * 16):
                return await super().count_before(*args, **kwargs)
        finally:
            self.lost = lost
        return await super().count_before(*args, **kwargs)


@pytest.mark.parametrize("moves", [1, 9])
async def test_who_moves_while_the_neighbours_are_read_is_looked_for_again(moves: int) -> None:
    """An entry is never shown beside itself; who does not keep still is unavailable."""
    stair = stair_without(1)
    window, left = stair.database.window, [moves]

    async def moving(*args: Any, **kwargs: Any) -> Any:
        if left[0]:
            left[0] -= 1
            arrival = 100 + moves - left[0]
            for rung in (stair.index, stair.database):
                rung.put(BOARD, (17, 50 + arrival, 0), arrival=arrival)
        return await window(*args, **kwargs)

    stair.database.window = moving  # type: ignore[method-assign]
    around = ListEntriesAround(stair.reading)

    if moves > 1:
        with pytest.raises(IndexUnavailable):
            await around("board", 17, above=1, below=2, options=ReadOptions())
        return
    found = await around("board", 17, above=1, below=2, options=ReadOptions())

    assert [e.rank for e in found.entries] == [1, 2, 3, 4]
    assert [e.standing.user_id for e in found.entries].count(17) == 1
