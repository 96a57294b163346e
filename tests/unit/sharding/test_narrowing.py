"""The narrowing against boards that lie in lists."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharding.narrowing import Bracket, Grid, ShardGrid, Stretch, first_stretches

EVEN = (1 / 16,) * 16
SPREADS = ("independent", "one shard", "two shards", "one shard after the other", "half of it")


def shards_of(count: int, spread: str, seed: int) -> list[list[bytes]]:
    """A board of `count` keys in 16 lists; keys of equal results among them."""
    rng = random.Random(seed)
    shards: list[list[bytes]] = [[] for _ in range(16)]
    for place in range(count):
        where = {
            "independent": rng.randrange(16),
            "one shard": 3,
            "two shards": rng.choice((2, 9)),
            "one shard after the other": place * 16 // count,
            "half of it": rng.randrange(16) if place < count // 2 else 5,
        }[spread]
        tied = (place // rng.choice((1, 50))).to_bytes(16)
        shards[where].append(tied + place.to_bytes(8) + rng.randbytes(8))
    return [sorted(shard) for shard in shards]


def grid_of(shards: Sequence[Sequence[bytes]], stretches: Sequence[Stretch], parts: int) -> Grid:
    """What the shards tell: the ranks of their stretches, and about `parts` more each."""
    grids = []
    for keys, stretch in zip(shards, stretches, strict=True):
        asked = {*range(stretch.first, stretch.last + 1, stretch.step)}
        asked |= {*range(0, len(keys), max(1, len(keys) // parts)), len(keys) - 1}
        ranks = sorted(rank for rank in asked if 0 <= rank < len(keys))
        grids.append(ShardGrid([keys[rank] for rank in ranks], ranks, len(keys)))
    return Grid(grids)


def rows_in(board: Sequence[bytes], bracket: Bracket) -> tuple[int, int]:
    """The offsets of a bracket's first row and of the one after its last."""
    low, high = bracket.within.low, bracket.within.high
    return bisect_left(board, low), bisect_left(board, high) if high else len(board)


boards = st.builds(
    shards_of,
    st.integers(0, 400),
    st.sampled_from(SPREADS),
    st.integers(0, 2**32),
)


@given(boards, st.data())
def test_a_key_has_its_rank_within_the_bounds(
    shards: list[list[bytes]], data: st.DataObject
) -> None:
    """Any key at all: one of the board, the beginning of one, one before or behind them all."""
    board = sorted(key for shard in shards for key in shard)
    stretches = [Stretch.over(data.draw(st.integers(0, 9)), 20, 3) for _ in shards]
    grid = grid_of(shards, stretches, data.draw(st.integers(1, 9)))

    length = data.draw(st.sampled_from((16, 24, 32)))
    for key in (b"\0", *(key[:length] for key in board), b"\xff" * 32):
        rank = grid.rank(key)
        assert rank.low <= bisect_left(board, key) <= rank.high
        assert rank.low <= rank.likely_low <= rank.likely_high <= rank.high


@given(boards, st.data())
def test_a_certain_bracket_has_the_entries_wanted(
    shards: list[list[bytes]], data: st.DataObject
) -> None:
    """Whatever the board and the grid are like, at both ends too; and the next grid shrinks it."""
    board = sorted(key for shard in shards for key in shard)
    if not board:
        return
    offset = data.draw(st.integers(0, len(board) - 1) | st.just(len(board) - 1))
    end = min(offset + data.draw(st.integers(1, 30)), len(board))
    stretches = first_stretches(offset, end - offset, shares=EVEN, total=None)
    for _ in range(4):
        grid = grid_of(shards, stretches, parts=1)
        bracket = grid.certain(offset, end)
        first, last = rows_in(board, bracket)
        assert first <= offset
        assert last >= end
        stretches = grid.between(bracket.within)
    # By now every key in the bracket is known.
    assert (last - first) <= (end - offset) + 1


@pytest.mark.parametrize("spread", SPREADS)
def test_few_grids_are_needed(spread: str) -> None:
    """Of a board of 60,000: with the shares known one grid leaves few rows, and they are the right
    ones nearly always; without, or where shares differ from place to place, two or three do.
    """
    count, limit, rows_max = 60_000, 10, 2000
    shards = shards_of(count, spread, seed=7)
    board = sorted(key for shard in shards for key in shard)
    shares = [len(shard) / count for shard in shards]
    rng = random.Random(3)
    uniform = spread in ("independent", "one shard", "two shards")
    for offset in (600, 30_000, count - limit, *(rng.randrange(count - limit) for _ in range(9))):
        for known in (shares, EVEN):
            stretches = first_stretches(offset, limit, shares=known, total=count)
            grids = 1
            while True:
                grid = grid_of(shards, stretches, parts=4)
                likely = grid.likely(offset, offset + limit)
                first, last = rows_in(board, likely)
                if likely.rows <= rows_max and first <= offset and last >= offset + limit:
                    break
                stretches = grid.between(grid.certain(offset, offset + limit).within)
                grids += 1
            assert grids <= (1 if uniform and known is shares else 3), (offset, known)


def test_a_stretch_is_not_too_long() -> None:
    """However far it reaches, some dozen ranks are asked for."""
    for width in (0, 1, 63, 64, 65, 1000, 10**8):
        stretch = Stretch.over(5, 5 + width, 1)
        assert stretch.step == max(1, ceil(width / 64))
        assert len(range(stretch.first, stretch.last + 1, stretch.step)) <= 65
