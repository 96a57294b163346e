"""A failover that takes acknowledged index writes back: nothing is told without them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import psycopg
import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.embedded.redis_node import RedisNode
from bootstrap.embedded.waiting import until
from core.errors import IndexUnavailable
from core.types import Board
from tests.fakes.making import board_spec, submission
from tests.fixtures.keeping import Kept
from tests.integration.sharding.nodes import owner, replicated, run

pytestmark = [pytest.mark.both_engines, pytest.mark.timeout(120)]

SHARD = 0
USERS = range(1, 101)


async def test_writes_that_a_failover_loses_are_missed_by_no_reader(
    kept: Kept, redis_faults: EmbeddedRedisCluster
) -> None:
    """The new primary answers nothing until they are there again, which takes one step."""
    board = await kept.boards.create(board_spec())
    await kept.build.season(board.season.number)
    await kept.catch_up()
    assert await kept.shown(board) == []

    async def write() -> None:
        result = await kept.record(board, [submission(user, user) for user in USERS])
        assert await kept.indexed(result)

    await fail_over_without(redis_faults, write)

    await _must_not_answer(kept, board)
    await kept.heal()
    assert await kept.shown(board) == await kept.truth(board)


async def test_lost_writes_above_the_horizon_are_missed_by_no_reader(
    kept: Kept, redis_faults: EmbeddedRedisCluster
) -> None:
    """An older transaction is open: the mark cannot pass what was lost, and it is brought all the
    same before the shard answers.
    """
    board = await kept.boards.create(board_spec())
    await kept.build.season(board.season.number)
    await kept.catch_up()
    async with await psycopg.AsyncConnection.connect(kept.dsn) as other:
        await other.execute("select pg_current_xact_id()")

        async def write() -> None:
            result = await kept.record(board, [submission(user, user) for user in USERS])
            assert await kept.indexed(result)

        await fail_over_without(redis_faults, write)

        await _must_not_answer(kept, board)
        await kept.heal()
        assert await kept.shown(board) == await kept.truth(board)


async def test_a_second_failover_before_the_confirmation_is_noticed(
    kept: Kept, redis_faults: EmbeddedRedisCluster
) -> None:
    """What was seen of one history confirms no other."""
    board = await kept.boards.create(board_spec())
    await kept.build.season(board.season.number)
    await kept.catch_up()
    seen = (await kept.keeping.shards([]))[SHARD]

    async def write() -> None:
        assert await kept.indexed(await kept.record(board, [submission(16, 1)]))

    await fail_over_without(redis_faults, write)

    await _must_not_answer(kept, board)
    assert not await kept.keeping.confirm(SHARD, seen.history)
    with pytest.raises(IndexUnavailable):
        await kept.shown(board)
    await kept.heal()
    assert await kept.shown(board) == await kept.truth(board)


async def fail_over_without(
    cluster: EmbeddedRedisCluster, write: Callable[[], Awaitable[None]]
) -> None:
    """Kills the primary of SHARD; its replica takes over without what is written here."""
    primary = await owner(cluster, SHARD)
    assert await until(partial(replicated, primary), timeout_s=5)
    (replica,) = [node for node in cluster.nodes if await _follows(node, primary)]
    # A password that the primary refuses: the replica loses its link and gets no other.
    await run(replica, "CONFIG", "SET", "masterauth", "not the word")
    await run(replica, "CLIENT", "KILL", "TYPE", "master")
    assert await until(partial(_is_cut_off, replica), timeout_s=5)
    await write()
    await primary.kill()
    await run(replica, "CONFIG", "SET", "masterauth", "")
    await run(replica, "CLUSTER", "FAILOVER", "TAKEOVER")

    async def known_to_all() -> bool:
        others = [node for node in cluster.nodes if node is not primary]
        owners = [await owner(cluster, SHARD, asked=node) for node in others]
        return all(node is replica for node in owners)

    assert await until(known_to_all, timeout_s=20)


async def _must_not_answer(kept: Kept, board: Board) -> None:
    """Reads until the new primary is asked: it must say that it may lack something."""
    async with asyncio.timeout(20):
        while True:
            with pytest.raises(IndexUnavailable) as refused:
                await kept.shown(board)
            assert SHARD in refused.value.shards
            if (await kept.keeping.shards([]))[SHARD].reachable:
                break
    with pytest.raises(IndexUnavailable):
        await kept.shown(board)


async def _follows(node: RedisNode, primary: RedisNode) -> bool:
    role = await run(node, "ROLE")
    return bool(role[0] == "slave" and f"{role[1]}:{role[2]}" == primary.address)


async def _is_cut_off(replica: RedisNode) -> bool:
    return (await run(replica, "ROLE"))[3] != "connected"
