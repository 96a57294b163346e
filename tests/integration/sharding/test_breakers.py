"""The breakers of the index on a cluster whose nodes stand still."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.embedded.waiting import until
from core.errors import IndexUnavailable
from core.ports import Freshness
from resilience.breakers import Breakers
from resilience.prober import Prober
from sharding.guards import REDIS_BREAKERS, breaker_name
from sharding.index import RedisIndex
from sharding.keeping import RedisIndexKeeping
from sharding.keys import SHARDS
from sharding.router import Router
from sharding.settings import RedisSettings
from sharding.slot_map import Address
from tests.integration.sharding.board import SEASON, build, item_of
from tests.integration.sharding.nodes import owner

ANY = Freshness()


@pytest.fixture
async def breakers() -> Breakers:
    """Those of the index."""
    return Breakers(REDIS_BREAKERS, rng=random.Random(1))


@pytest.fixture
async def router(cluster: EmbeddedRedisCluster, breakers: Breakers) -> AsyncIterator[Router]:
    """A router with the times of production, and a prober."""
    router = Router(RedisSettings(nodes=cluster.addresses), rng=random.Random(1), breakers=breakers)
    await router.open()
    probes = {breaker_name(shard): partial(router.probe, shard) for shard in SHARDS}
    probing = asyncio.create_task(Prober(breakers, probes).run())
    yield router
    probing.cancel()
    await router.aclose()


async def test_a_node_that_stands_still_is_found_out_within_a_second(
    index: RedisIndex,
    keeping: RedisIndexKeeping,
    router: Router,
    breakers: Breakers,
    redis_faults: EmbeddedRedisCluster,
) -> None:
    """Twenty reads a second are enough. Then its shards are refused at once while all others
    answer, and when it goes on they are asked again without a caller's help.
    """
    await build(keeping, [item_of(n, n) for n in range(160)])
    victim = await owner(redis_faults, 0)
    lost = router.by_node(SHARDS)[Address.parse(victim.address)]

    async def read(shard: int) -> bool:
        try:
            await index.users(SEASON, [shard], cutoff_bytes=32, fresh=ANY)
        except IndexUnavailable:
            return False
        return True

    victim.freeze()
    began_s = time.monotonic()
    reads = []
    while not all(breakers[breaker_name(shard)].shut for shard in lost):
        reads += [asyncio.create_task(read(shard)) for shard in SHARDS]
        await asyncio.sleep(0.05)
        assert time.monotonic() - began_s < 1.0
    await asyncio.gather(*reads)

    began_s = time.monotonic()
    answered = await asyncio.gather(*(read(shard) for shard in SHARDS))
    assert time.monotonic() - began_s < 0.1
    assert [shard for shard in SHARDS if not answered[shard]] == lost

    victim.thaw()

    async def closed() -> bool:
        return all(breaker.free for breaker in breakers)

    assert await until(closed, timeout_s=10)
    assert all(await asyncio.gather(*(read(shard) for shard in SHARDS)))
