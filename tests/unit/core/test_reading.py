"""What all reads share: ranks in few trips, hidden entries, and how old an answer is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from core.batch_get_entries import BatchGetEntries
from core.clock import SystemClock
from core.errors import EntryNotFound, Staleness
from core.estimate_rank import EstimateRank
from core.get_entry import GetEntry
from core.get_percentile import GetPercentile, rank_at
from core.list_entries import ListEntries
from core.list_entries_around import ListEntriesAround
from core.reading import Reading
from core.types import (
    Board,
    EntryState,
    RankMode,
    ReadMeta,
    ReadOptions,
    ScorePoint,
    ScoreRange,
    Season,
)
from tests.fakes.making import board_spec
from tests.fakes.memory_index import MemoryIndex, reading_of

BOARD = Board(1, board_spec(), Season(1, "s1"), 1, 0, 0)
HIDDEN = 99


@dataclass
class Scene:
    """Users 1 to 5 with scores 50 to 10, a hidden one beside the second, and the keys of all."""

    index: MemoryIndex
    reading: Reading
    keys: dict[int, bytes]


@pytest.fixture
def scene() -> Scene:
    """A small board."""
    index = MemoryIndex()
    keys = {user: index.put(BOARD, (user, 60 - 10 * user, 0), arrival=user) for user in range(1, 6)}
    keys[HIDDEN] = index.put(BOARD, (HIDDEN, 40, 0), arrival=9, state=EntryState.HIDDEN)
    return Scene(index, reading_of(index, BOARD), keys)


@pytest.mark.parametrize("mode", RankMode)
async def test_a_right_hint_saves_a_trip(scene: Scene, mode: RankMode) -> None:
    """Entry and count are asked for at once, and not again."""
    question = await scene.reading.question("board", ReadOptions())

    ranks, _ = await scene.reading.rank(question, [4], mode, hints={4: scene.keys[4]})

    assert ranks[4][1] == 4
    assert scene.index.asked == ["users", "count_before"]


async def test_a_wrong_hint_does_no_harm(scene: Scene) -> None:
    """The ranks are counted again, for those with a hint and for those without."""
    question = await scene.reading.question("board", ReadOptions())

    ranks, _ = await scene.reading.rank(
        question, [3, 4], RankMode.ORDINAL, hints={4: scene.keys[1]}
    )

    assert {user: rank for user, (_, rank) in ranks.items()} == {3: 3, 4: 4}
    assert scene.index.asked == ["users", "count_before", "count_before"]


async def test_a_hidden_entry_is_shown_to_its_user_alone(scene: Scene) -> None:
    """With the rank it would have; the others pass it over."""
    get_entry, around = GetEntry(scene.reading), ListEntriesAround(scene.reading)
    own, other = ReadOptions(viewer_user_id=HIDDEN), ReadOptions(viewer_user_id=1)

    entry, _ = await get_entry("board", HIDDEN, own)
    window = await around("board", HIDDEN, above=1, below=1, options=own)

    assert (entry.rank, entry.hidden) == (3, True)
    assert [(e.standing.user_id, e.rank, e.hidden) for e in window.entries] == [
        (2, 2, False),
        (HIDDEN, 3, True),
        (3, 3, False),
    ]
    with pytest.raises(EntryNotFound):
        await get_entry("board", HIDDEN, other)
    with pytest.raises(EntryNotFound):
        await around("board", HIDDEN, above=1, below=1, options=other)


async def test_a_list_passes_its_viewers_hidden_entry_over(scene: Scene) -> None:
    """And for everybody else it is missing."""
    batch = BatchGetEntries(scene.reading)

    own = await batch("board", [3, HIDDEN, 2], ReadOptions(viewer_user_id=HIDDEN))
    other = await batch("board", [3, HIDDEN, 2], ReadOptions())

    assert [(e.standing.user_id, e.rank, e.list_rank) for e in own.entries] == [
        (2, 2, 1),
        (HIDDEN, 3, 2),
        (3, 3, 2),
    ]
    assert (list(other.missing_user_ids), len(other.entries)) == ([HIDDEN], 2)


async def test_a_list_of_nobody_is_answered(scene: Scene) -> None:
    """With a true word about the season, in one trip."""
    answer = await BatchGetEntries(scene.reading)("board", [], ReadOptions())

    assert (answer.entries, answer.missing_user_ids, answer.meta.entry_count) == ([], [], 5)
    assert scene.index.asked == ["count_before"]


Read = Callable[[Reading, ReadOptions], Awaitable[ReadMeta]]


async def _get_entry(reading: Reading, options: ReadOptions) -> ReadMeta:
    return (await GetEntry(reading)("board", 1, options))[1]


async def _batch(reading: Reading, options: ReadOptions) -> ReadMeta:
    return (await BatchGetEntries(reading)("board", [1], options)).meta


async def _list(reading: Reading, options: ReadOptions) -> ReadMeta:
    page = await ListEntries(reading)(
        "board",
        page_size=3,
        page_token="",
        start_rank=None,
        scores=ScoreRange(),
        options=options,
    )
    return page.meta


async def _around(reading: Reading, options: ReadOptions) -> ReadMeta:
    return (await ListEntriesAround(reading)("board", 1, above=1, below=1, options=options)).meta


async def _estimate(reading: Reading, options: ReadOptions) -> ReadMeta:
    estimate = await EstimateRank(reading)(
        "board", ScorePoint(1), target_rank=1, target_percent=1, options=options
    )
    return estimate.meta


async def _percentile(reading: Reading, options: ReadOptions) -> ReadMeta:
    return (await GetPercentile(reading)("board", 50.0, options)).meta


async def _percent(reading: Reading, options: ReadOptions) -> ReadMeta:
    return (await GetPercentile(reading)("board", ScorePoint(1), options)).meta


_every_read = pytest.mark.parametrize(
    "read", [_get_entry, _batch, _list, _around, _estimate, _percentile, _percent]
)


@_every_read
async def test_an_index_that_was_long_unchecked_says_so(scene: Scene, read: Read) -> None:
    """The age is in the answer, and whoever wants a younger one is refused."""
    scene.index.caught_up_ms = SystemClock().now_ms() - 60_000

    meta = await read(scene.reading, ReadOptions(max_staleness_ms=300_000))

    assert 60_000 <= meta.staleness_ms < 120_000
    with pytest.raises(Staleness):
        await read(scene.reading, ReadOptions(max_staleness_ms=59_999))


async def test_that_there_is_no_entry_may_be_too_old_as_well(scene: Scene) -> None:
    """What was submitted since the index was last checked may be missing from it."""
    scene.index.caught_up_ms = SystemClock().now_ms() - 60_000
    fresh = ReadOptions(max_staleness_ms=1_000)

    with pytest.raises(Staleness):
        await GetEntry(scene.reading)("board", 777, fresh)
    with pytest.raises(Staleness):
        await ListEntriesAround(scene.reading)("board", 777, above=1, below=1, options=fresh)
    with pytest.raises(EntryNotFound):
        await ListEntriesAround(scene.reading)(
            "board", 777, above=1, below=1, options=ReadOptions()
        )


@_every_read
@pytest.mark.parametrize("unchecked_ms", [-500, 0, 4_000])
async def test_an_index_that_is_kept_up_is_not_stale(
    scene: Scene, read: Read, unchecked_ms: int
) -> None:
    """It is checked every second or so, by another worker's clock, and good for any wish."""
    scene.index.caught_up_ms = SystemClock().now_ms() - unchecked_ms

    assert (await read(scene.reading, ReadOptions(max_staleness_ms=0))).staleness_ms == 0


@pytest.mark.parametrize(
    ("percent", "entry_count", "rank"),
    [
        (7.0, 100, 7),
        (0.1, 1_000, 1),
        (0.3, 10_000, 30),
        (33.3, 1_000, 333),
        (100.0, 10**9, 10**9),
        (5e-324, 1, 1),
        (50.0, 3, 2),
        (50.0, 0, 0),
    ],
)
def test_a_percent_is_taken_as_it_is_written(percent: float, entry_count: int, rank: int) -> None:
    """Without the noise of floats: 7 % of 100 entries are 7, not 8."""
    assert rank_at(percent, entry_count) == rank
