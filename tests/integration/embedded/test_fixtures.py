"""The shared fixtures give what they promise."""

import asyncio

import psycopg
import pytest

from bootstrap.embedded.binaries import Engine
from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster


@pytest.mark.both_engines
async def test_cluster_is_whole(redis_cluster: EmbeddedRedisCluster) -> None:
    """Each engine's cluster has six nodes, and every one of them answers."""
    for node in redis_cluster.nodes:
        async with node.client() as client:
            info = await client.cluster("info")
        assert info["cluster_known_nodes"] == "6"


@pytest.mark.both_engines
async def test_cluster_heals(redis_faults: EmbeddedRedisCluster) -> None:
    """A killed primary, whose last transfer broke off, and a frozen replica are both back after
    `heal`.
    """
    await redis_faults.nodes[0].kill()
    (redis_faults.nodes[0].directory / "dump.rdb").write_bytes(b"REDIS0011")
    redis_faults.nodes[4].freeze()

    await redis_faults.heal()

    assert all(node.running for node in redis_faults.nodes)


@pytest.mark.both_postgres
async def test_database_is_migrated(database: str, postgres: EmbeddedPostgres) -> None:
    """A test's database has the schema, on each version."""
    async with await psycopg.AsyncConnection.connect(database) as connection:
        cursor = await connection.execute("select count(*) from schema_migrations")
        row = await cursor.fetchone()

    assert row is not None
    assert row[0] > 0


@pytest.mark.both_postgres
async def test_databases_are_apart(empty_database: str, database: str) -> None:
    """Two databases of one test do not see each other's tables."""
    async with await psycopg.AsyncConnection.connect(empty_database) as connection:
        cursor = await connection.execute("select to_regclass('schema_migrations')")
        row = await cursor.fetchone()

    assert row == (None,)


async def test_postgres_returns_on_its_port(postgres_faults: EmbeddedPostgres) -> None:
    """A killed server that is restarted keeps its port, so that dsn stay true."""
    dsn = postgres_faults.dsn
    await postgres_faults.kill()

    await postgres_faults.restart()

    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        assert connection.info.server_version >= 150000


async def test_frozen_postgres_is_silent(postgres_faults: EmbeddedPostgres) -> None:
    """A frozen server's open sessions neither answer nor close."""
    async with await psycopg.AsyncConnection.connect(
        postgres_faults.dsn, autocommit=True
    ) as connection:
        postgres_faults.freeze()
        query = asyncio.ensure_future(connection.execute("select 1"))
        done, _ = await asyncio.wait([query], timeout=0.3)
        postgres_faults.thaw()
        await query

    assert not done


async def test_default_engine_is_redis(redis_cluster: EmbeddedRedisCluster) -> None:
    """Without a marker the cluster is genuine Redis."""
    async with redis_cluster.nodes[0].client() as client:
        info = await client.info("server")

    assert Engine.REDIS == info.get("server_name", Engine.REDIS)
