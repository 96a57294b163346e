"""A page at any depth: the place is narrowed down, then fetched by key."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from core.errors import IndexUnavailable
from core.ordering import KEY_BYTES
from core.ports import IndexView, KeyRange, PageSlice
from sharding.keys import SHARDS
from sharding.merge import ROW_BYTES, merge, pairs
from sharding.narrowing import Grid, ShardGrid, Stretch, first_stretches
from sharding.reading import SeasonRead, view_of
from sharding.replies import Reply
from sharding.shard_counts import ShardCounts
from sharding.windows import Span, note_counts, read_window

_TOP_ROWS_MAX: Final = 1000
"""A page that ends so near the top is fetched with all that stands before it."""
_EXTRA_ROWS_MAX: Final = 4000
"""Rows beside those wanted that are fetched rather than narrowed down once more."""
_PARTS: Final = 4
"""Into so many parts a grid cuts each shard beside the place where the entries are expected."""
_GRIDS_MAX: Final = 8
"""A board of any shape needs three; more only where masses of entries move meanwhile."""


async def read_page(read: SeasonRead, counts: ShardCounts, offset: int, limit: int) -> PageSlice:
    """Up to `limit` entries in rank order after the first `offset`.

    Cost: one round trip near the top, two elsewhere where entries stand independently of their
    shards, three to five where they do not. Raises IndexUnavailable where entries move so fast
    that no place can be found.
    """
    if offset + limit <= _TOP_ROWS_MAX or offset == 0:
        window = await read_window(read, counts, Span(b"", 0, offset + limit, KeyRange()))
        before = min(offset, len(window.below))
        return PageSlice(before, window.below[offset:], window.view)
    stretches = first_stretches(
        offset,
        limit,
        shares=counts.shares(read.season_number),
        total=counts.total(read.season_number),
    )
    guess = True
    for _ in range(_GRIDS_MAX):
        grid, view = await _read_grid(read, counts, stretches)
        if offset >= grid.total:
            return PageSlice(grid.total, [], view)
        end = min(offset + limit, grid.total)
        # Where the shards are not alike one guess fails, and so would the next.
        bracket = grid.likely(offset, end) if guess else grid.certain(offset, end)
        if bracket.rows <= limit + _EXTRA_ROWS_MAX:
            page = await _read_between(read, counts, bracket.within, offset, limit)
            if page is not None:
                return page
            guess = False
        stretches = grid.between(grid.certain(offset, end).within)
    raise IndexUnavailable


async def _read_grid(
    read: SeasonRead, counts: ShardCounts, stretches: Sequence[Stretch]
) -> tuple[Grid, IndexView]:
    """The grids of all shards. Cost: one round trip."""
    asked = {shard: (one.first, one.last, one.step) for shard, one in enumerate(stretches)}
    replies = await read.ask("grid", [(_PARTS,)], asked)
    states, shards = [], []
    for shard in SHARDS:
        state, grid = _grid_of(replies[shard][0])
        states.append(state)
        shards.append(grid)
    counts.note(read.season_number, [grid.count for grid in shards])
    return Grid(shards), view_of(states)


def _grid_of(reply: Reply) -> tuple[tuple[int, int, int], ShardGrid]:
    match reply:
        case [int(epoch), int(live), int(caught_up_ms), bytes(ranks), bytes(keys)]:
            places = range(0, len(keys), KEY_BYTES)
            grid = ShardGrid(
                keys=[keys[place : place + KEY_BYTES] for place in places],
                ranks=struct.unpack(f">{len(places)}I", ranks),
                count=live,
            )
            return (epoch, live, caught_up_ms), grid
    raise TypeError("not what the function grid replies")


async def _read_between(
    read: SeasonRead, counts: ShardCounts, within: KeyRange, offset: int, limit: int
) -> PageSlice | None:
    """The page, if it lies between two keys; None if it does not, or if far more than was expected
    lies there now. What stands before it is counted with its rows. Cost: one round trip.
    """
    rows_max = limit + 2 * _EXTRA_ROWS_MAX
    span = Span(within.low, 0, rows_max, within)
    shares, states = await span.ask(read, SHARDS, 0, rows_max)
    view = note_counts(read, counts, states)
    before = sum(share.before for share in shares.values())
    rows = merge([share.below for share in shares.values()])
    ends_here = not within.high or before + len(rows) >= offset + limit
    cut = any(len(share.below) == rows_max * ROW_BYTES for share in shares.values())
    if before > offset or not ends_here or cut:
        return None
    first = offset - before
    return PageSlice(before + min(first, len(rows)), pairs(rows[first : first + limit]), view)
