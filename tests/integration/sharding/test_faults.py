"""Lost connections, lost functions, lost callers and a lost primary."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial

import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.embedded.waiting import until
from core.errors import IndexUnavailable, StandingsError
from core.ports import Clock, Freshness
from sharding.connection import NodeConnection
from sharding.index import RedisIndex
from sharding.keeping import RedisIndexKeeping
from sharding.library import LIBRARY
from sharding.replies import NodeBusy, NodeLost
from sharding.router import Router
from sharding.settings import RedisSettings
from sharding.slot_map import Address
from tests.integration.sharding.board import SEASON, build, change_of, confirm, item_of
from tests.integration.sharding.nodes import owner, primaries, replicated, run

pytestmark = pytest.mark.every_engine

ANY = Freshness()
ITEMS = [item_of(n, n) for n in range(160)]


async def total(index: RedisIndex) -> int:
    """All the entries, counted in every shard."""
    counts, _ = await index.count_before(SEASON, [b"\xff" * 32], shards=range(16), fresh=ANY)
    return sum(row[0] for row in counts)


async def test_calls_go_on_after_every_connection_was_cut(
    index: RedisIndex, keeping: RedisIndexKeeping, cluster: EmbeddedRedisCluster
) -> None:
    """Neither a read nor a write notices that its connections are gone."""
    await build(keeping, ITEMS)
    for call in (total, lambda index: index.apply(200, [change_of(item) for item in ITEMS])):
        for node in await primaries(cluster):
            await run(node, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert await call(index) in (160, frozenset())


async def test_missing_functions_are_put_back(
    index: RedisIndex, keeping: RedisIndexKeeping, cluster: EmbeddedRedisCluster
) -> None:
    """The call that finds them missing loads them and succeeds; concurrent ones too."""
    await build(keeping, ITEMS)
    for call in (total, lambda index: index.apply(200, [change_of(item) for item in ITEMS])):
        for node in await primaries(cluster):
            await run(node, "FUNCTION", "FLUSH")
        results = await asyncio.gather(*(call(index) for _ in range(10)))
        assert set(results) in ({160}, {frozenset()})


async def test_functions_are_loaded_by_the_user_who_may(
    cluster: EmbeddedRedisCluster, keeping: RedisIndexKeeping
) -> None:
    """The user of the index may only call; the admin loads for it."""
    await build(keeping, ITEMS)
    users = {
        "app": (
            "~{s*",
            "-@all",
            "+@read",
            "+fcall",
            "+fcall_ro",
            "+cluster|slots",
            "+asking",
            "+info",
            "+time",
        ),
        "loader": ("-@all", "+function|load"),
    }
    nodes = await primaries(cluster)
    for node in nodes:
        for name, rules in users.items():
            await run(node, "ACL", "SETUSER", name, "on", f">{name}-word", "resetkeys", *rules)
        await run(node, "FUNCTION", "FLUSH")
    settings = RedisSettings.model_validate(
        {
            "nodes": tuple(node.address for node in nodes),
            "username": "app",
            "password": "app-word",
            "admin_username": "loader",
            "admin_password": "loader-word",
        }
    )
    router = Router(settings, rng=random.Random(1))
    await router.open()
    try:
        assert await total(RedisIndex(router)) == 160
    finally:
        await router.aclose()
        for node in await primaries(cluster):
            await run(node, "ACL", "DELUSER", *users)


async def test_cancelled_callers_never_shift_answers(cluster: EmbeddedRedisCluster) -> None:
    """Callers that give up anywhere in the pipeline leave everybody else's answer alone."""
    rng = random.Random(5)
    connection = await NodeConnection.open(
        Address.parse(cluster.addresses[0]),
        tls=None,
        response_timeout_s=5,
        pending_calls_max=10_000,
    )

    async def call(number: int) -> bool:
        texts = [b"%d-%d" % (number, place) for place in range(3)]
        return await connection.send([(b"ECHO", text) for text in texts]) == texts

    answered = 0
    for round_number in range(60):
        tasks = [asyncio.create_task(call(round_number * 100 + n)) for n in range(50)]
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        for task in rng.sample(tasks, 20):
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        finished = [result for result in results if not isinstance(result, BaseException)]
        assert all(finished)
        answered += len(finished)
    connection.abort()
    await connection.wait_closed()
    assert answered >= 60 * 30


async def test_a_cluster_that_is_away_fails_in_time(clock: Clock) -> None:
    """Opening without a cluster is fine; its calls fail as ours, within their time."""
    router = Router(RedisSettings(nodes=("127.0.0.1:1",)), rng=random.Random(1))
    await router.open()
    index, keeping = RedisIndex(router), RedisIndexKeeping(router, clock)
    started = time.monotonic()

    assert await index.apply(1, [change_of(ITEMS[3])]) == {(SEASON, 3)}
    with pytest.raises(IndexUnavailable):
        await total(index)
    with pytest.raises(IndexUnavailable):
        await keeping.drop(SEASON)
    assert not any(status.reachable for status in await keeping.shards([SEASON]))
    assert await keeping.unbuilt([SEASON]) == []
    assert time.monotonic() - started < 2.5
    await router.aclose()


async def test_a_killed_primary_is_replaced_by_its_replica(
    index: RedisIndex,
    keeping: RedisIndexKeeping,
    router: Router,
    redis_faults: EmbeddedRedisCluster,
) -> None:
    """Other shards answer throughout; the lost ones again once the replica has taken over."""
    await build(keeping, ITEMS)
    for node in await primaries(redis_faults):
        assert await until(partial(replicated, node), timeout_s=5)
    victim = await owner(redis_faults, 0)
    lost = router.by_node(range(16))[Address.parse(victim.address)]
    started = time.monotonic()
    await victim.kill()

    failed = await index.apply(200, [change_of(item) for item in ITEMS])
    assert sorted(shard for _, shard in failed) == lost
    assert time.monotonic() - started < 1.0
    while True:
        try:
            found = await total(index)
            break
        except StandingsError:
            assert time.monotonic() - started < 15
            await confirm(keeping)
            await asyncio.sleep(0.05)
    assert found == 160
    assert await index.apply(201, [change_of(item) for item in ITEMS]) == frozenset()


async def test_a_frozen_node_is_given_up_in_time(cluster: EmbeddedRedisCluster) -> None:
    """A connection whose node stopped answering is closed; calls beyond its bound never wait."""
    node = cluster.nodes[0]
    connection = await NodeConnection.open(
        Address.parse(node.address), tls=None, response_timeout_s=0.2, pending_calls_max=2
    )
    await run(node, "CLIENT", "PAUSE", 400, "ALL")
    waiting = [connection.send([LIBRARY.read("done", (), ())]) for _ in range(3)]

    assert [type(await future) for future in waiting] == [NodeLost, NodeLost, NodeBusy]

    await connection.wait_closed()
    assert not connection.usable
    # Answered when the pause is over, which leaves the node as it was.
    assert await run(node, "PING")
