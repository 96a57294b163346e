"""Users' entries from memory: given again only while nothing can have changed them here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from core.board_directory import BoardDirectory
from core.errors import (
    EntryNotFound,
    IndexUnavailable,
    SeasonNotFound,
    Staleness,
    StandingsError,
)
from core.hot_entries import HotEntries, HotEntryLimits
from core.ordering import Item, Ordering, encode_item
from core.own_writes import OwnWrites
from core.types import (
    EntryState,
    EntryView,
    Exactness,
    IndexChange,
    RankedEntry,
    RankMode,
    ReadMeta,
    ReadOptions,
    Season,
    Source,
    Standing,
)
from tests.fakes.held import HeldClock, OneBoard
from tests.fakes.making import board_spec

ANY = ReadOptions()
ORDER = Ordering.of(board_spec())


@dataclass
class Entries:
    """Reads entries from a dictionary of scores; counts, waits and fails as it is told to."""

    clock: HeldClock
    scores: dict[int, int]
    season_id: str = "s1"
    achieve_time_ms: int = 0
    hints: list[bytes | None] = field(default_factory=list)
    options: list[ReadOptions] = field(default_factory=list)
    error: StandingsError | None = None
    gate: asyncio.Event | None = None
    missing: tuple[int, ...] = ()

    async def __call__(
        self, board_id: str, user_id: int, options: ReadOptions, *, hint: bytes | None = None
    ) -> tuple[RankedEntry, ReadMeta]:
        """What the entry was like when the read began."""
        self.hints.append(hint)
        self.options.append(options)
        scores, as_of_ms = dict(self.scores), self.clock.now_ms()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if user_id not in scores:
            raise EntryNotFound
        rank = 1 + sum(score > scores[user_id] for score in scores.values())
        standing = Standing(user_id, scores[user_id], 0, self.achieve_time_ms)
        meta = ReadMeta(as_of_ms, Source.INDEX, Exactness.EXACT, self.season_id, 1, len(scores))
        return RankedEntry(standing, rank), replace(meta, shards_missing=self.missing)


class Bench:
    """Hot entries before a scripted reader; user n of 1 to 5 has 10 n points."""

    def __init__(self, limits: HotEntryLimits | None = None) -> None:
        self.clock = HeldClock()
        self.reader = Entries(self.clock, {user: 10 * user for user in range(1, 6)})
        self.own = OwnWrites()
        self.store = OneBoard(Season(1, "s1"))
        self.entries = HotEntries(
            self.reader,
            boards=BoardDirectory(self.store, self.clock),  # type: ignore[arg-type]
            own_writes=self.own,
            clock=self.clock,
            limits=limits or HotEntryLimits(),
        )

    @property
    def reads(self) -> int:
        """How often an entry was read."""
        return len(self.reader.hints)

    async def get(self, user_id: int = 3, options: ReadOptions = ANY) -> tuple[Source, int, int]:
        """The source of an answer, its age and the rank."""
        entry, meta = await self.entries("board", user_id, options)
        return meta.source, meta.staleness_ms, entry.rank

    def write(self, user_id: int, score: int) -> None:
        """A submission acknowledged by this worker, seen as a write only."""
        before = self.reader.scores.get(user_id)
        self.reader.scores[user_id] = score
        results = [ORDER.result(number, 0) for number in (before, score) if number is not None]
        self.own.wrote(1, min(results), int(before is None))


async def turns() -> None:
    """Lets all go on that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def change(user_id: int, score: int, *, time_ms: int = 0) -> IndexChange:
    """What the index is told of an entry."""
    prefix = ORDER.key(score, 0, 1, user_id)[:24]
    return IndexChange(
        1, user_id % 16, encode_item(Item(user_id, prefix, 1, EntryState.LIVE, time_ms))
    )


@pytest.fixture
def bench() -> Bench:
    """An empty cache."""
    return Bench()


async def test_an_entry_is_given_again_with_its_age(bench: Bench) -> None:
    """For half a minute; then it is read."""
    assert await bench.get() == (Source.INDEX, 0, 3)
    assert await bench.get() == (Source.CACHE, 1, 3)
    bench.clock.ms += 30_000
    assert await bench.get() == (Source.CACHE, 30_000, 3)
    bench.clock.ms += 1
    assert await bench.get() == (Source.INDEX, 0, 3)
    assert bench.reads == 2


@pytest.mark.parametrize(("user", "score"), [(1, 31), (1, 30), (5, 2), (3, 29), (3, 31), (9, 99)])
async def test_an_own_write_at_or_before_it_ends_it(bench: Bench, user: int, score: int) -> None:
    """Whoever rises above it, falls from above it, or is the user."""
    await bench.get()
    bench.write(user, score)

    source, _, rank = await bench.get()

    assert source is Source.INDEX
    assert rank == 1 + sum(other > bench.reader.scores[3] for other in bench.reader.scores.values())


async def test_an_own_write_behind_it_leaves_it_and_counts(bench: Bench) -> None:
    """Who stands behind does not change the rank, only the number of entries."""
    await bench.get()
    bench.write(9, 29)

    entry, meta = await bench.entries("board", 3, ANY)

    assert (meta.source, meta.entry_count, entry.rank) == (Source.CACHE, 6, 3)


async def test_an_answer_that_a_write_overtook_is_not_kept(bench: Bench) -> None:
    """It may have looked before the write."""
    bench.reader.gate = asyncio.Event()
    early = asyncio.create_task(bench.get())
    await turns()
    bench.write(1, 99)
    bench.reader.gate.set()
    assert await early == (Source.INDEX, 0, 3)

    assert await bench.get() == (Source.INDEX, 0, 4)


async def test_an_older_read_does_not_replace_a_newer_one(bench: Bench) -> None:
    """It may come back last, with an answer or without."""
    slow = bench.reader.gate = asyncio.Event()
    early = asyncio.create_task(bench.get())
    await turns()
    bench.reader.gate = None
    bench.write(1, 99)
    await bench.get()
    slow.set()
    await early
    assert await bench.get() == (Source.CACHE, 1, 4)

    slow = bench.reader.gate = asyncio.Event()
    bench.reader.error = EntryNotFound()
    early = asyncio.create_task(bench.get(3, ReadOptions(max_staleness_ms=0)))
    await turns()
    bench.reader.gate = bench.reader.error = None
    bench.write(2, 98)
    await bench.get()
    bench.reader.error = EntryNotFound()
    slow.set()
    with pytest.raises(EntryNotFound):
        await early
    assert await bench.get() == (Source.CACHE, 1, 5)


@pytest.mark.parametrize(
    "options",
    [
        ReadOptions(consistency_token="token"),
        ReadOptions(view=EntryView.FULL),
    ],
)
async def test_all_else_is_read(bench: Bench, options: ReadOptions) -> None:
    """A token and full entries are passed on as they are."""
    await bench.get()

    for _ in range(2):
        assert await bench.get(3, options) == (Source.INDEX, 0, 3)

    assert bench.reader.options == [ANY, options, options]


async def test_answers_differ_by_user_mode_and_season(bench: Bench) -> None:
    """Nobody gets another one's answer."""
    shared = ReadOptions(rank_mode=RankMode.COMPETITION)
    assert [(await bench.get(*asked))[0] for asked in [(3, ANY), (3, shared), (4, ANY)]] == [
        Source.INDEX
    ] * 3
    assert (await bench.get(3, ReadOptions(season_id="s1")))[0] is Source.CACHE
    bench.store.season, bench.reader.season_id = Season(2, "s2"), "s2"
    bench.clock.ms += 1_000

    with pytest.raises(SeasonNotFound):
        await bench.get(3, ReadOptions(season_id="s1"))
    assert (await bench.get())[0] is Source.INDEX


async def test_an_answer_of_another_season_is_not_kept(bench: Bench) -> None:
    """The season may end between the look at the board and the read."""
    bench.reader.season_id = "s2"

    for _ in range(2):
        assert (await bench.get())[0] is Source.INDEX


async def test_a_caller_may_want_it_fresher(bench: Bench) -> None:
    """Older than max_staleness is not given; nothing from memory is fresh enough for 0."""
    await bench.get()
    bench.clock.ms += 100

    assert (await bench.get(3, ReadOptions(max_staleness_ms=100)))[0] is Source.CACHE
    assert (await bench.get(3, ReadOptions(max_staleness_ms=99)))[0] is Source.INDEX
    assert (await bench.get(3, ReadOptions(max_staleness_ms=0)))[0] is Source.INDEX


async def test_who_has_no_entry_is_looked_up_each_time(bench: Bench) -> None:
    """A first submission to another worker is seen at once; what is gone is not kept."""
    for _ in range(2):
        with pytest.raises(EntryNotFound):
            await bench.get(9)
    assert bench.reads == 2

    await bench.get()
    del bench.reader.scores[3]
    with pytest.raises(EntryNotFound):
        await bench.get(3, ReadOptions(max_staleness_ms=0))
    with pytest.raises(EntryNotFound):
        await bench.get()


# --- written through ---------------------------------------------------------------------------


async def test_the_key_of_an_own_write_goes_with_the_next_read(bench: Bench) -> None:
    """Also with one that needs a token; a user not written here has none."""
    bench.own.flushed([], [change(3, 30)])

    await bench.get()
    await bench.get(3, ReadOptions(consistency_token="token"))
    await bench.get(4)

    key = ORDER.key(30, 0, 1, 3)
    assert bench.reader.hints == [key, key, None]


async def test_an_answer_behind_an_own_write_is_not_kept(bench: Bench) -> None:
    """The index missed it. As soon as the healer has brought it, it is shown."""
    bench.own.flushed([], [change(3, 35, time_ms=2_000)])
    bench.reader.achieve_time_ms = 1_000
    assert await bench.get() == (Source.INDEX, 0, 3)

    bench.reader.achieve_time_ms = 2_000
    assert await bench.get() == (Source.INDEX, 0, 3)
    assert await bench.get() == (Source.CACHE, 1, 3)


async def test_an_answer_is_not_kept_while_the_index_lacks_a_write_of_any_shard(
    bench: Bench,
) -> None:
    """Also if the shard is missing from it: of its two reads perhaps from one only."""
    bench.reader.missing = (4,)
    bench.own.missed([(1, 4)])

    assert [await bench.get() for _ in range(2)] == [(Source.INDEX, 0, 3)] * 2
    assert bench.reads == 2


# --- trouble and size --------------------------------------------------------------------------


async def test_while_the_index_is_silent_the_last_answer_is_given(bench: Bench) -> None:
    """Though touched, with its age; refused to who wants it fresher, or when it is void."""
    await bench.get()
    bench.write(1, 99)
    bench.clock.ms += 700
    bench.reader.error = IndexUnavailable()

    assert await bench.get() == (Source.CACHE, 700, 3)
    with pytest.raises(Staleness):
        await bench.get(3, ReadOptions(max_staleness_ms=699))
    with pytest.raises(IndexUnavailable):
        await bench.get(3, ReadOptions(consistency_token="token"))
    bench.own.forget(1)
    with pytest.raises(IndexUnavailable):
        await bench.get()


async def test_an_answer_that_is_too_old_is_not_given_even_then() -> None:
    """The two times are apart."""
    bench = Bench(HotEntryLimits(fresh_s=1, error_s=2))
    await bench.get()
    bench.reader.error = IndexUnavailable()
    bench.clock.ms += 2_000
    assert await bench.get() == (Source.CACHE, 2_000, 3)
    bench.clock.ms += 1

    with pytest.raises(IndexUnavailable):
        await bench.get()


async def test_those_asked_for_last_are_held() -> None:
    """As many as allowed."""
    bench = Bench(HotEntryLimits(entries_max=2))
    for user in (1, 2, 1, 3):
        await bench.get(user)

    sources = [(await bench.get(user))[0] for user in (1, 3, 2)]

    assert sources == [Source.CACHE, Source.CACHE, Source.INDEX]


@pytest.mark.parametrize("limits", [HotEntryLimits(fresh_s=0), HotEntryLimits(entries_max=0)])
async def test_it_can_be_turned_off(limits: HotEntryLimits) -> None:
    """Then every entry is read."""
    bench = Bench(limits)

    for _ in range(2):
        assert await bench.get() == (Source.INDEX, 0, 3)
