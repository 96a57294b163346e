"""The suite's cluster, empty for each test, and the room on top of it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from core.ports import Clock
from sharding.index import RedisIndex
from sharding.keeping import RedisIndexKeeping
from sharding.router import Router
from sharding.settings import RedisSettings
from tests.fixtures.redis import empty


class StillClock:
    """A clock that always says the same."""

    def now_ms(self) -> int:
        """A fixed time."""
        return 1_700_000_000_000

    def monotonic_s(self) -> float:
        """A fixed moment."""
        return 1.0


@pytest.fixture
def clock() -> Clock:
    """The time of what is written to the index."""
    return StillClock()


@pytest.fixture
async def cluster(redis_cluster: EmbeddedRedisCluster) -> EmbeddedRedisCluster:
    """The session's cluster, without a key."""
    await empty(redis_cluster)
    return redis_cluster


@pytest.fixture
async def router(cluster: EmbeddedRedisCluster) -> AsyncIterator[Router]:
    """A router over the cluster."""
    # Time enough for a busy machine.
    settings = RedisSettings(nodes=cluster.addresses, read_timeout_s=0.5, response_timeout_s=1)
    router = Router(settings, rng=random.Random(1))
    await router.open()
    yield router
    await router.aclose()


@pytest.fixture
def index(router: Router) -> RedisIndex:
    """The index under test."""
    return RedisIndex(router)


@pytest.fixture
def keeping(router: Router, clock: Clock) -> RedisIndexKeeping:
    """Its keeper."""
    return RedisIndexKeeping(router, clock)
