"""The order that PostgreSQL keeps is the order of core.ordering, whoever wrote the entries."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from core.ordering import PREFIX_BYTES, decode_item
from core.types import INT64_MAX, INT64_MIN, Board, EntryState, Operator, SortOrder
from jobs.rank_keys import FillRankKeys
from tests.fakes.making import board_spec, submission
from tests.integration.storage.conftest import Store

pytestmark = pytest.mark.every_way

KEYS = "select user_id, rank_key from entries where season_no = %s and state <> 1 order by user_id"


async def keys(store: Store, board: Board) -> list[tuple[object, ...]]:
    """What the table holds."""
    return await store.execute(KEYS, board.season.number)


async def right(store: Store, board: Board) -> list[tuple[object, ...]]:
    """The beginnings of the keys that the index would be given."""
    found = []
    for shard in range(16):
        chunk = await store.history.load(board.season.number, shard, after_user_id=0, limit=1_000)
        items = [decode_item(chunk.items[at : at + 44]) for at in range(0, len(chunk.items), 44)]
        found += [(i.user_id, i.key[:PREFIX_BYTES]) for i in items if i.state != EntryState.DELETED]
    return sorted(found)


async def left(store: Store) -> int:
    """How many entries lack one."""
    [(count,)] = await store.execute(
        "select count(*) from entries where state = 0 and rank_key is null"
    )
    assert isinstance(count, int)
    return count


@pytest.mark.parametrize("orders", list(itertools.product(SortOrder, SortOrder)))
async def test_every_write_keeps_the_key(store: Store, orders: tuple[SortOrder, SortOrder]) -> None:
    """New entries, changed and unchanged ones, deleted and made again, hidden and shown."""
    spec = board_spec(
        sort_order=orders[0], subscore_sort_order=orders[1], operator=Operator.INCREMENT
    )
    board = await store.create(spec)
    ends = [INT64_MIN, -1, 0, 1, INT64_MAX]
    await store.record(board, *(submission(n, score, -n) for n, score in enumerate(ends, 1)))
    await store.record(
        board, submission(2, 5), submission(2, 6), submission(3, 0), submission(9, 1)
    )
    await store.delete_entry(board, 4)
    await store.delete_entry(board, 9)
    await store.record(board, submission(9, 3))

    assert await keys(store, board) == await right(store, board)
    assert await left(store) == 0


async def test_a_board_that_is_index_only_keeps_none(store: Store) -> None:
    """Nor does an entry that had one, once it is written; the job brings all of them back."""
    board = await store.create(board_spec(operator=Operator.SET))
    await store.record(board, *(submission(user, 1) for user in range(1, 40)))
    board = await store.boards.update("board", {"index_only": True}, etag="")
    await store.record(board, *(submission(user, 2) for user in range(20, 60)))
    fill = FillRankKeys(store.retention)

    await fill()
    assert board.spec.index_only
    assert [row[1] is None for row in await keys(store, board)] == [False] * 19 + [True] * 40

    board = await store.boards.update("board", {"index_only": False}, etag="")
    await fill()
    assert await keys(store, board) == await right(store, board)


async def test_what_an_older_worker_moved_is_found(store: Store) -> None:
    """It knows no keys: the entry loses the old one, and the job makes a new one."""
    board = await store.create(board_spec())
    await store.record(board, *(submission(user, 1) for user in (1, 2, 17)))
    other = await store.create(replace(board_spec("other"), index_only=True))
    await store.record(other, submission(1, 5))
    season = board.season.number

    await store.execute(
        "update entries set score = 9, arrival = arrival + 1 where season_no = %s and user_id = 17",
        season,
    )
    await store.execute("update entries set submission_count = 7 where user_id = 2")

    assert [row[1] is None for row in await keys(store, board)] == [False, False, True]
    assert [await store.retention.fill_rank_keys(1, limit=10) for _ in range(2)] == [1, 0]
    assert await keys(store, board) == await right(store, board)
    assert await left(store) == 1


async def test_a_filled_entry_is_not_waited_for(store: Store) -> None:
    """An entry that somebody is writing is left for the next run."""
    board = await store.create(board_spec())
    await store.record(board, submission(1, 1), submission(17, 1))
    await store.execute("update entries set rank_key = null")

    async with store.pool.connection() as connection, connection.transaction():
        await connection.execute("select from entries where user_id = 17 for update")
        assert await store.retention.fill_rank_keys(1, limit=10) == 1
    assert await store.retention.fill_rank_keys(1, limit=10) == 1
    assert await keys(store, board) == await right(store, board)
