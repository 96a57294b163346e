"""Which rank a result would take, and what it takes to rise, on very many small boards."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.estimate_rank import EstimateRank, RankTarget
from core.types import (
    INT64_MAX,
    INT64_MIN,
    Board,
    BoardSpec,
    Operator,
    RankMode,
    ReadOptions,
    ScorePoint,
    Season,
    SortOrder,
)
from tests.fakes.making import board_spec
from tests.fakes.memory_index import MemoryIndex, reading_of
from tests.fakes.oracle import Oracle

STEPS = 20
"""More than there are between any two scores below."""
_scores = st.integers(-4, 4)
_results = st.tuples(_scores, st.integers(-1, 1))
_bounds = st.sampled_from([(None, None), (-2, 2), (None, 3), (-3, None), (5, None), (None, -5)])


def filled(spec: BoardSpec, results: list[tuple[int, int]]) -> tuple[EstimateRank, Oracle]:
    """A board with these results, and the same for the oracle."""
    # Bounds may have come after the scores.
    oracle = Oracle(board_spec(operator=Operator.SET))
    board, index = Board(1, spec, Season(1, "s1"), 1, 0, 0), MemoryIndex()
    for user_id, (score, subscore) in enumerate(results, start=1):
        entry = oracle.submit(user_id, score, subscore).entry
        assert entry is not None
        index.put(board, (user_id, score, subscore), arrival=entry.arrival)
    oracle.spec = spec
    return EstimateRank(reading_of(index, board)), oracle


def check(target: RankTarget | None, oracle: Oracle, point: ScorePoint, mode: RankMode) -> None:
    """The least score is what the oracle finds by trying one after the other."""
    assert target is not None
    needed = oracle.score_needed(point, target.rank, mode, STEPS)

    assert target.score_needed == needed
    assert target.score_gap == (0 if needed is None else abs(needed - point.score))
    assert target.reached == (oracle.estimate(point, mode) <= target.rank)


@given(
    orders=st.tuples(st.sampled_from(SortOrder), st.sampled_from(SortOrder)),
    bounds=_bounds,
    results=st.lists(_results, max_size=12),
    asked=_results,
    mode=st.sampled_from(RankMode),
    target_rank=st.integers(1, 15),
)
@settings(max_examples=600, deadline=None)
async def test_the_score_needed_takes_the_rank_and_one_step_less_does_not(
    orders: tuple[SortOrder, SortOrder],
    bounds: tuple[int | None, int | None],
    results: list[tuple[int, int]],
    asked: tuple[int, int],
    mode: RankMode,
    target_rank: int,
) -> None:
    """For the next better place and for any rank, in both orders and both modes."""
    spec = board_spec(
        sort_order=orders[0],
        subscore_sort_order=orders[1],
        min_score=bounds[0],
        max_score=bounds[1],
    )
    estimate_rank, oracle = filled(spec, results)
    point = ScorePoint(*asked)

    estimate = await estimate_rank(
        "board",
        point,
        target_rank=target_rank,
        target_percent=30,
        options=ReadOptions(rank_mode=mode),
    )

    assert estimate.rank == oracle.estimate(point, mode)
    ranks = [oracle.rank(entry.user_id, mode) for entry in oracle.board()]
    better = [rank for rank in ranks if rank < estimate.rank]
    assert (estimate.next and estimate.next.rank) == (max(better) if better else None)
    if estimate.next is not None:
        check(estimate.next, oracle, point, mode)
    check(estimate.for_rank, oracle, point, mode)
    if results:
        check(estimate.for_percent, oracle, point, mode)
        assert estimate.for_percent is not None
        assert estimate.for_percent.rank == -(-30 * len(results) // 100)
    for target in (estimate.for_rank, estimate.for_percent):
        if target is not None:
            holder = oracle.board()[target.rank - 1 : target.rank]
            shown = [] if target.score is None else [(target.score, target.subscore)]
            assert shown == [(entry.score, entry.subscore) for entry in holder]


@pytest.mark.parametrize(
    ("order", "end"),
    [(SortOrder.DESCENDING, INT64_MAX), (SortOrder.ASCENDING, INT64_MIN)],
)
async def test_nothing_is_better_than_the_best_score_there_is(order: SortOrder, end: int) -> None:
    """Whoever came first with it keeps the place; with a better subscore it can be taken."""
    estimate_rank, _ = filled(board_spec(sort_order=order), [(end, 0)])
    options = ReadOptions()

    equal = await estimate_rank(
        "board", ScorePoint(-end), target_rank=None, target_percent=None, options=options
    )
    better = await estimate_rank(
        "board", ScorePoint(0, 1), target_rank=None, target_percent=None, options=options
    )

    assert equal.next == RankTarget(1, end, 0, None, 0, reached=False)
    assert better.next == RankTarget(1, end, 0, end, abs(end), reached=False)


async def test_an_empty_board_has_no_next_place_and_no_percent() -> None:
    """Any result would be the first, and reaches any rank."""
    estimate_rank, _ = filled(board_spec(), [])

    estimate = await estimate_rank(
        "board", ScorePoint(7), target_rank=3, target_percent=50, options=ReadOptions()
    )

    assert (estimate.rank, estimate.next, estimate.for_percent) == (1, None, None)
    assert estimate.for_rank == RankTarget(3, None, None, 7, 0, reached=True)
