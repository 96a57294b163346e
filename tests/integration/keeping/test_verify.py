"""Holding the index against the ledger: every difference is found, and none that is not there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from bootstrap.operation_files import OperationFiles
from core.clock import SystemClock
from core.errors import BoardNotFound
from core.index_operations import IndexOperations
from core.operations import Operation, Operations, OperationState
from core.snapshots import user_of
from core.types import Board, Operator
from sharding.keys import meta_key, season_keys
from tests.fakes.making import board_spec, submission
from tests.fixtures.keeping import Kept
from tests.integration.sharding.nodes import owner, run

pytestmark = [pytest.mark.both_engines, pytest.mark.timeout(120)]

SHARD = 5
USERS = range(1, 2001)
USER = 16 * 7 + SHARD
_TAMPERINGS = {
    "a key is gone from the set": "zrem",
    "a value is gone": "hdel",
    "a key stands elsewhere": "moved",
    "an entry was never in the ledger": "stranger",
    "a value is old": "old",
}


@pytest.fixture
def operating(kept: Kept, tmp_path: Path) -> IndexOperations:
    """Operations over both stores."""
    clock = SystemClock()
    operations = Operations(OperationFiles(tmp_path, clock), clock)
    return IndexOperations(operations, kept.boards, kept.verify, kept.build)


async def ended(operating: IndexOperations, operation: Operation) -> Operation:
    """An operation when it has ended."""
    async with asyncio.timeout(60):
        await asyncio.gather(*operating.operations.running)
    return await operating.operations.get(operation.operation_id)


async def test_an_equal_index_is_equal(kept: Kept, operating: IndexOperations) -> None:
    """Hidden and deleted entries, too; every pair is gone through once."""
    board = await _board(kept)
    found = await ended(operating, await operating.verify("", [], repair=True))

    assert found.state is OperationState.DONE
    assert found.shards == ()
    assert (found.done_count, found.total_count) == (16, 16)
    assert found.entry_count == len(await kept.truth(board))


@pytest.mark.parametrize("tampering", list(_TAMPERINGS))
async def test_every_difference_is_found_and_repaired(
    kept: Kept, operating: IndexOperations, tampering: str
) -> None:
    """Whatever is wrong with an entry, it is named; after the repair both sides are equal."""
    board = await _board(kept)
    wrong = await _tamper(kept, board, _TAMPERINGS[tampering])

    found = await ended(operating, await operating.verify("board", [], repair=False))
    (shard,) = found.shards
    assert (shard.shard, shard.difference_count, shard.user_ids) == (SHARD, len(wrong), wrong)
    assert not shard.rebuilt

    repaired = await ended(operating, await operating.verify("board", [SHARD], repair=True))
    assert [shard.rebuilt for shard in repaired.shards] == [True]
    assert await kept.shown(board) == await kept.truth(board)
    again = await ended(operating, await operating.verify("board", [], repair=False))
    assert again.shards == ()


async def test_a_shard_that_the_index_lacks_differs_in_all(
    kept: Kept, operating: IndexOperations
) -> None:
    """It is not told as empty in PostgreSQL, and a repair builds it."""
    board = await _board(kept)
    node = await owner(kept.cluster, SHARD)
    await run(node, "DEL", *season_keys(SHARD, board.season.number))
    count = sum(user_of(key) % 16 == SHARD for key in await kept.truth(board))

    found = await ended(operating, await operating.verify("board", [], repair=False))
    (shard,) = found.shards
    assert (shard.shard, shard.database_entry_count, shard.index_entry_count) == (SHARD, count, 0)
    assert (shard.difference_count, shard.rebuilt) == (count, False)

    await ended(operating, await operating.verify("board", [SHARD], repair=True))
    assert await kept.shown(board) == await kept.truth(board)


async def test_writes_meanwhile_are_no_differences(kept: Kept, operating: IndexOperations) -> None:
    """Flush after flush, some of which nobody applies but the healer; nothing is reported."""
    board = await _board(kept)
    stopped = asyncio.Event()
    rng = random.Random(3)

    async def write() -> None:
        while not stopped.is_set():
            batch = [submission(user, 1) for user in rng.sample(USERS, 100)]
            result = await kept.record(board, batch)
            if rng.random() < 0.7:
                await kept.apply(result)

    async def heal() -> None:
        while not stopped.is_set():
            await kept.heal()
            await asyncio.sleep(0.3)

    background = [asyncio.create_task(write()), asyncio.create_task(heal())]
    for _ in range(3):
        found = await ended(operating, await operating.verify("board", [], repair=False))
        assert (found.state, found.shards) == (OperationState.DONE, ())
    stopped.set()
    await asyncio.gather(*background)


async def test_a_difference_is_found_among_writes(kept: Kept, operating: IndexOperations) -> None:
    """One stale entry, while all the others move."""
    board = await _board(kept)
    (wrong,) = await _tamper(kept, board, "old")
    stopped = asyncio.Event()

    async def write() -> None:
        others = [user for user in USERS if user != wrong]
        while not stopped.is_set():
            batch = [submission(user, 1) for user in random.sample(others, 100)]
            await kept.apply(await kept.record(board, batch))
            await kept.heal()

    writing = asyncio.create_task(write())
    found = await ended(operating, await operating.verify("board", [], repair=False))
    stopped.set()
    await writing

    assert [shard.user_ids for shard in found.shards] == [(wrong,)]


async def test_a_rebuild_is_asked_for_and_stopped(kept: Kept, operating: IndexOperations) -> None:
    """It copies every shard while writes go on; a stop leaves the rest as it was."""
    board = await _board(kept)
    await run(await owner(kept.cluster, SHARD), "DEL", season_keys(SHARD, board.season.number)[1])
    late = await kept.record(board, [submission(USER, 5)])

    begun = await operating.rebuild("board", [])
    await kept.apply(late)
    found = await ended(operating, begun)

    assert (found.state, found.done_count, len(found.shards)) == (OperationState.DONE, 16, 16)
    assert found.entry_count == len(await kept.truth(board))
    assert all(shard.rebuilt for shard in found.shards)
    assert await kept.shown(board) == await kept.truth(board)

    begun = await operating.rebuild("board", [])
    await operating.operations.cancel(begun.operation_id)
    stopped = await ended(operating, begun)
    assert stopped.state is OperationState.CANCELLED
    assert stopped.done_count < 16
    assert await kept.shown(board) == await kept.truth(board)
    with pytest.raises(BoardNotFound):
        await operating.rebuild("nowhere", [])


async def test_a_shard_that_lost_its_mark_is_told_and_built(
    kept: Kept, operating: IndexOperations
) -> None:
    """Nothing of it can be held against anything."""
    board = await _board(kept)
    await run(await owner(kept.cluster, SHARD), "DEL", meta_key(SHARD))

    found = await ended(operating, await operating.verify("board", [SHARD], repair=True))

    assert [(shard.shard, shard.rebuilt) for shard in found.shards] == [(SHARD, True)]
    assert await kept.shown(board) == await kept.truth(board)


async def _board(kept: Kept) -> Board:
    """A board with entries of every state, all of them in the index."""
    board = await kept.boards.create(board_spec(operator=Operator.INCREMENT))
    await kept.build.season(board.season.number)
    for start in range(0, len(USERS), 1000):
        batch = [submission(user, user) for user in USERS[start : start + 1000]]
        await kept.apply(await kept.record(board, batch))
    await kept.execute(
        "update entries set state = 1 + (user_id % 2) where user_id % 50 < 2 and state = 0"
    )
    await kept.build.season(board.season.number)
    await kept.catch_up()
    return board


async def _tamper(kept: Kept, board: Board, how: str) -> tuple[int, ...]:
    """Makes an entry of the index wrong behind everybody's back; returns whose."""
    season = board.season.number
    node = await owner(kept.cluster, SHARD)
    h, z = season_keys(SHARD, season)
    user = USER.to_bytes(8)
    (change,) = await kept.history.items(SHARD, [(season, USER)])
    value, key = change.item[8:], change.item[8:32] + user
    await _edit(kept, node.address, how, (h, z, user, value, key))
    return (USER, 16 * 5_000 + SHARD) if how == "stranger" else (USER,)


async def _edit(kept: Kept, address: str, how: str, parts: Sequence[bytes]) -> None:
    h, z, user, value, key = parts
    node = kept.cluster.node(address)
    own = (2**60).to_bytes(8) + value[8:24]
    member, other = key + value[30:], own + user + value[30:]
    stranger = key[:24] + (16 * 5_000 + SHARD).to_bytes(8) + value[30:]
    old = bytes(6) + value[30:]
    commands: dict[str, list[tuple[bytes | str | int, ...]]] = {
        "zrem": [("ZREM", z, member), ("ZADD", z, 0, other)],
        "hdel": [("HDEL", h, user)],
        "moved": [("ZREM", z, member), ("ZADD", z, 0, other), ("HSET", h, user, own + value[24:])],
        "old": [("ZREM", z, member), ("ZADD", z, 0, other), ("HSET", h, user, own + old)],
        "stranger": [("ZREM", z, member), ("ZADD", z, 0, stranger)],
    }
    for command in commands[how]:
        await run(node, *command)
