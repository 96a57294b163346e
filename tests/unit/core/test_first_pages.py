"""First pages from memory: read once for many, and never older than they may be."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from core.errors import IndexUnavailable, SeasonNotFound, Staleness
from core.first_pages import FirstPageLimits
from core.types import (
    EntryView,
    RankMode,
    ReadOptions,
    ScoreRange,
    Season,
    Source,
)
from tests.unit.core.first_pages_bench import ANY, FRESHEST, Bench, told, turns


@pytest.fixture
def bench() -> Bench:
    """An empty cache."""
    return Bench()


async def test_a_page_is_given_again_with_its_age(bench: Bench) -> None:
    """The first answer is the index's; the second is the same one, and says so."""
    first = await bench.get()
    bench.clock.ms += 250
    second = await bench.get()

    assert told(first) == (Source.INDEX, 0, [90, 80])
    assert told(second) == (Source.CACHE, 250, [90, 80])
    assert second == replace(first, meta=second.meta)
    assert second.meta.as_of_ms == first.meta.as_of_ms
    assert bench.reads == 1


async def test_an_age_is_never_nothing(bench: Bench) -> None:
    """What was read in the same millisecond is a cache's answer all the same."""
    await bench.get()

    assert told(await bench.get()) == (Source.CACHE, 1, [90, 80])


async def test_a_page_of_an_index_that_is_behind_is_not_kept(bench: Bench) -> None:
    """It may lack what this worker has acknowledged; and it says how far behind it is."""
    bench.reader.lag_ms = 6_000

    assert [(await bench.get()).meta.staleness_ms for _ in range(2)] == [6_000, 6_000]
    assert bench.reads == 2
    with pytest.raises(Staleness):
        await bench.get(ReadOptions(max_staleness_ms=5_000))


@pytest.mark.parametrize(
    ("missing", "lag_ms", "reads"),
    [((3, 4), 0, 1), (tuple(range(16)), 0, 1), ((4,), 0, 2), ((), 0, 2), ((3, 4), 1, 2)],
    ids=["primary", "primary for all", "index for it", "index", "replica"],
)
async def test_what_the_primary_says_for_a_shard_that_missed_a_write_is_kept(
    bench: Bench, missing: tuple[int, ...], lag_ms: int, reads: int
) -> None:
    """It lacks nothing; the index may, and a replica says that it is behind."""
    bench.reader.missing, bench.reader.lag_ms = missing, lag_ms
    bench.own.missed([(1, 3)])

    for _ in range(2):
        page = await bench.get()
        assert page.meta.shards_missing == missing

    assert bench.reads == reads
    bench.write(85)
    assert told(await bench.get())[2] == [90, 85]


async def test_a_stale_page_is_given_while_one_new_is_read(bench: Bench) -> None:
    """Nobody waits, however many ask; the next caller gets what came of it."""
    await bench.get()
    bench.clock.ms += 251
    bench.reader.scores.append(100)
    bench.reader.gate = asyncio.Event()

    for _ in range(5):
        assert told(await bench.get()) == (Source.CACHE, 251, [90, 80])
    await turns()
    assert bench.reads == 2
    bench.reader.gate.set()
    await bench.settle()

    assert told(await bench.get()) == (Source.CACHE, 1, [100, 90])
    assert bench.reads == 2


async def test_past_twice_its_time_a_page_is_waited_for(bench: Bench) -> None:
    """It is not given any more, and those who come together share one read."""
    await bench.get()
    bench.clock.ms += 501
    bench.reader.scores.append(100)

    pages = await asyncio.gather(*(bench.get() for _ in range(50)))

    assert [told(page) for page in pages] == [
        (Source.INDEX, 0, [100, 90]),
        *[(Source.CACHE, 1, [100, 90])] * 49,
    ]
    assert bench.reads == 2


async def test_who_joins_a_read_is_told_when_it_began(bench: Bench) -> None:
    """Its age counts from before the read, not from its answer."""
    bench.reader.gate = asyncio.Event()
    starter = asyncio.create_task(bench.get())
    await turns()
    bench.clock.ms += 40
    joined = asyncio.create_task(bench.get())
    await turns()
    bench.clock.ms += 2
    bench.reader.gate.set()

    assert (await starter).meta.source is Source.INDEX
    assert told(await joined) == (Source.CACHE, 42, [90, 80])
    assert bench.reads == 1


# --- own writes --------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [85, 80, 100])
async def test_an_own_write_on_the_page_ends_it_at_once(bench: Bench, score: int) -> None:
    """Whoever was acknowledged sees it in the next page of this worker."""
    await bench.get()
    bench.write(score)

    page = await bench.get()

    assert told(page) == (Source.INDEX, 0, sorted([90, 80, score], reverse=True)[:2])


async def test_an_own_write_behind_the_page_leaves_it_and_counts(bench: Bench) -> None:
    """The entries are the same; only the number of all entries has changed."""
    await bench.get()
    bench.write(79)

    page = await bench.get()

    assert told(page) == (Source.CACHE, 1, [90, 80])
    assert page.meta.entry_count == 4


async def test_a_page_read_while_an_entry_was_added_is_not_kept(bench: Bench) -> None:
    """It may count that entry or not; who joined the read is told the count as it was read."""
    bench.reader.gate = asyncio.Event()
    early, joined = asyncio.create_task(bench.get()), asyncio.create_task(bench.get())
    await turns()
    bench.write(10)
    bench.reader.gate.set()

    assert [(await page).meta.entry_count for page in (early, joined)] == [3, 3]
    again = (await bench.get()).meta
    assert (again.source, again.entry_count, bench.reads) == (Source.INDEX, 4, 2)


async def test_any_own_write_ends_a_page_that_shows_the_whole_board(bench: Bench) -> None:
    """The last place is on it too."""
    await bench.get(page_size=3)
    bench.write(1)

    assert (await bench.get(page_size=3)).next_page_token == "more"
    assert bench.reads == 2


async def test_a_read_that_a_write_has_overtaken_is_not_joined(bench: Bench) -> None:
    """It may have looked before the write; who comes after the write has one of their own."""
    bench.reader.gate = asyncio.Event()
    early = asyncio.create_task(bench.get())
    await turns()
    bench.write(100)
    late = [asyncio.create_task(bench.get()) for _ in range(3)]
    await turns()
    bench.reader.gate.set()

    assert told(await early) == (Source.INDEX, 0, [90, 80])
    assert {tuple(told(await page)[2]) for page in late} == {(100, 90)}
    assert told(await bench.get())[2] == [100, 90]
    assert bench.reads == 2


async def test_a_read_that_was_overtaken_does_not_replace_a_newer_one(bench: Bench) -> None:
    """It may come back last."""
    slow = bench.reader.gate = asyncio.Event()
    early = asyncio.create_task(bench.get())
    await turns()
    bench.write(100)
    bench.reader.gate = None
    await bench.get()
    slow.set()
    await early

    assert told(await bench.get()) == (Source.CACHE, 1, [100, 90])
    assert bench.reads == 2


# --- what the caller asks for ------------------------------------------------------------------


async def test_a_caller_may_want_it_fresher(bench: Bench) -> None:
    """Older than max_staleness is not given; younger is."""
    await bench.get()
    bench.clock.ms += 100

    assert (await bench.get(ReadOptions(max_staleness_ms=100))).meta.source is Source.CACHE
    assert (await bench.get(ReadOptions(max_staleness_ms=99))).meta.source is Source.INDEX
    assert bench.reads == 2


async def test_the_freshest_is_always_read_and_never_joined(bench: Bench) -> None:
    """Everybody who wants it reads for themselves; others gain by it."""
    pages = await asyncio.gather(*(bench.get(FRESHEST) for _ in range(3)))

    assert [told(page) for page in pages] == [(Source.INDEX, 0, [90, 80])] * 3
    assert told(await bench.get()) == (Source.CACHE, 1, [90, 80])
    assert bench.reads == 3


async def test_a_joined_read_that_took_too_long_is_not_enough(bench: Bench) -> None:
    """It was young enough when it was joined; it no longer is when it comes back."""
    gate = bench.reader.gate = asyncio.Event()
    starter = asyncio.create_task(bench.get())
    await turns()
    bench.clock.ms += 10
    joined = asyncio.create_task(bench.get(ReadOptions(max_staleness_ms=50)))
    await turns()
    assert bench.reads == 1
    bench.clock.ms += 90
    gate.set()
    await starter

    assert told(await joined) == (Source.INDEX, 0, [90, 80])
    assert bench.reads == 2


@pytest.mark.parametrize(
    ("changed", "options"),
    [
        ({"page_token": "next"}, ANY),
        ({"start_rank": 2}, ANY),
        ({"scores": ScoreRange(low=1)}, ANY),
        ({}, ReadOptions(view=EntryView.FULL)),
        ({}, ReadOptions(consistency_token="token")),
    ],
)
async def test_all_else_is_read(
    bench: Bench, changed: dict[str, object], options: ReadOptions
) -> None:
    """Other pages, full entries and reads with a token are passed on as they are."""
    await bench.get()

    for _ in range(2):
        page = await bench.get(options, **changed)
        assert page.meta.source is Source.INDEX

    assert bench.reader.calls[1:] == [(2, options)] * 2


async def test_pages_differ_by_size_mode_and_season(bench: Bench) -> None:
    """Nobody gets another one's page; rank 1 and the viewer make no difference."""
    other = ReadOptions(rank_mode=RankMode.COMPETITION)
    for options, size in [(ANY, 2), (other, 2), (ANY, 3)]:
        assert (await bench.get(options, page_size=size)).meta.source is Source.INDEX
    same = ReadOptions(viewer_user_id=5, season_id="s1")
    assert (await bench.get(same, start_rank=1)).meta.source is Source.CACHE
    bench.store.season = Season(2, "s2")
    bench.clock.ms += 1_000

    with pytest.raises(SeasonNotFound):
        await bench.get(same)
    assert (await bench.get()).meta.source is Source.INDEX
    assert bench.reads == 4


async def test_a_season_that_ends_during_the_read_is_no_error(bench: Bench) -> None:
    """Who named it is told; for who asked for the current one, the new one is read."""
    bench.reader.error = SeasonNotFound()
    with pytest.raises(SeasonNotFound):
        await bench.get(ReadOptions(season_id="s1"))
    assert bench.reads == 1

    with pytest.raises(SeasonNotFound):
        await bench.get()

    # The second look was for whatever season there is.
    named = [options.season_id for _, options in bench.reader.calls]
    assert named == ["s1", "s1", ""]


# --- trouble -----------------------------------------------------------------------------------


@pytest.mark.parametrize("age_ms", [600, 30_000])
async def test_while_the_index_is_silent_the_last_page_is_given(bench: Bench, age_ms: int) -> None:
    """Old or touched, it says how old it is."""
    await bench.get()
    bench.write(100)
    bench.clock.ms += age_ms
    bench.reader.error = IndexUnavailable()

    page = await bench.get()

    assert told(page) == (Source.CACHE, age_ms, [90, 80])
    assert page.meta.entry_count == 4


async def test_who_has_no_time_left_is_given_the_last_page(bench: Bench) -> None:
    """With its age. Whoever has more waits for the same read."""
    await bench.get()
    bench.clock.ms += 600
    bench.reader.scores.append(95)
    bench.reader.gate, bench.left_s = asyncio.Event(), 60
    patient = asyncio.create_task(bench.get())
    await turns()
    bench.left_s = 0.01

    assert told(await bench.get()) == (Source.CACHE, 600, [90, 80])
    with pytest.raises(Staleness):
        await bench.get(ReadOptions(max_staleness_ms=599))

    bench.reader.gate.set()
    assert told(await patient) == (Source.INDEX, 0, [95, 90])
    assert bench.reads == 2


async def test_who_has_no_time_left_waits_where_there_is_no_last_page(bench: Bench) -> None:
    """It is told what the read says, if that comes in time."""
    bench.reader.gate, bench.left_s = asyncio.Event(), 0.01
    caller = asyncio.create_task(bench.get())
    _, waiting = await asyncio.wait({caller}, timeout=0.05)
    assert waiting
    bench.reader.gate.set()

    assert told(await caller) == (Source.INDEX, 0, [90, 80])


async def test_who_wants_it_fresher_than_that_is_refused(bench: Bench) -> None:
    """Rather than given something older; with a token, nothing old is given at all."""
    await bench.get()
    bench.clock.ms += 600
    bench.reader.error = IndexUnavailable()

    for limit_ms in (599, 0):
        with pytest.raises(Staleness):
            await bench.get(ReadOptions(max_staleness_ms=limit_ms))
    assert told(await bench.get(ReadOptions(max_staleness_ms=600)))[1] == 600
    with pytest.raises(IndexUnavailable):
        await bench.get(ReadOptions(consistency_token="token"))


async def test_a_page_too_old_or_void_is_not_given_even_then(bench: Bench) -> None:
    """What was hidden or deleted does not come back because the index is silent."""
    await bench.get()
    bench.reader.error = IndexUnavailable()
    bench.clock.ms += 30_001
    with pytest.raises(IndexUnavailable):
        await bench.get()

    bench.reader.error = None
    await bench.get()
    bench.own.forget(1)
    bench.reader.error = IndexUnavailable()
    with pytest.raises(IndexUnavailable):
        await bench.get()


async def test_a_caller_who_gives_up_leaves_the_read_to_the_others(bench: Bench) -> None:
    """Neither the one who began it nor one who joined fails the rest by going away."""
    bench.reader.gate = asyncio.Event()
    callers = []
    for _ in range(3):
        callers.append(asyncio.create_task(bench.get()))
        await turns()
    for caller in callers[:2]:
        caller.cancel()
        await turns()
    bench.reader.gate.set()

    assert told(await callers[2])[2] == [90, 80]
    assert [caller.cancelled() for caller in callers] == [True, True, False]
    assert bench.reads == 1


async def test_a_failed_refresh_is_nobodys_error(bench: Bench) -> None:
    """It happens behind the callers' backs, and the next one to wait tries again."""
    problems: list[object] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: problems.append(context))
    try:
        await bench.get()
        bench.clock.ms += 300
        bench.reader.error = IndexUnavailable()
        await bench.get()
        await bench.settle()
        await turns()
    finally:
        loop.set_exception_handler(handler)
    bench.reader.error = None
    bench.clock.ms += 300

    assert told(await bench.get()) == (Source.INDEX, 0, [90, 80])
    assert problems == []
    assert bench.reads == 3


# --- size --------------------------------------------------------------------------------------


async def test_pages_are_held_up_to_a_number_of_entries() -> None:
    """A page counts its entries and one; what was asked for longest ago goes first."""
    bench = Bench(FirstPageLimits(entries_max=5))
    for size in (1, 2, 1, 2, 3):
        await bench.get(page_size=size)
    assert bench.reads == 3

    assert (await bench.get(page_size=3)).meta.source is Source.CACHE
    assert (await bench.get(page_size=1)).meta.source is Source.INDEX
    assert (await bench.get(page_size=3)).meta.source is Source.INDEX
    assert bench.pages._pages.currsize <= 5


async def test_a_page_larger_than_all_room_is_not_held() -> None:
    """It is read each time, and pushes nobody out."""
    bench = Bench(FirstPageLimits(entries_max=2))
    await bench.get(page_size=1)
    await bench.get(page_size=2)

    assert (await bench.get(page_size=2)).meta.source is Source.INDEX
    assert (await bench.get(page_size=1)).meta.source is Source.CACHE


async def test_it_can_be_turned_off() -> None:
    """Then every page is read, as it was asked for."""
    bench = Bench(FirstPageLimits(fresh_ms=0))

    for _ in range(2):
        assert (await bench.get(FRESHEST)).meta.source is Source.INDEX

    assert bench.reader.calls == [(2, FRESHEST)] * 2
