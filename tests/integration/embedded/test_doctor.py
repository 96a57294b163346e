"""`standings doctor` tells a whole installation from a broken one, and keeps passwords."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from sharding.library import LIBRARY
from tests.fixtures.standby import Standby


def _doctor(**settings: str) -> subprocess.CompletedProcess[str]:
    environment = {f"STANDINGS_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "cli", "doctor"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


async def _load_functions(cluster: EmbeddedRedisCluster) -> None:
    for node in cluster.nodes:
        async with node.client() as client:
            if (await client.role())[0] == "master":
                await client.execute_command("FUNCTION", "FLUSH")
                await client.execute_command(*LIBRARY.load)
                # The replicas are asked too.
                await client.wait(1, 5_000)


@pytest.mark.both_engines
async def test_all_is_well(database: str, redis_cluster: EmbeddedRedisCluster) -> None:
    """With the schema and the functions in place every line is ok, and the exit code too."""
    await _load_functions(redis_cluster)

    found = _doctor(POSTGRES_DSN=database, REDIS_NODES=redis_cluster.addresses[0])

    assert {line[:2] for line in found.stdout.splitlines()} == {"ok"}
    assert found.returncode == 0
    assert all(address in found.stdout for address in redis_cluster.addresses)


async def test_what_is_missing(empty_database: str, redis_faults: EmbeddedRedisCluster) -> None:
    """Pending migrations, a node that may evict and one that is away are named with a remedy."""
    await _load_functions(redis_faults)
    async with redis_faults.nodes[1].client() as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
    await redis_faults.nodes[5].kill()

    found = _doctor(POSTGRES_DSN=empty_database, REDIS_NODES=",".join(redis_faults.addresses))
    async with redis_faults.nodes[1].client() as client:
        await client.config_set("maxmemory-policy", "noeviction")

    assert found.returncode == 1
    assert "migrations pending" in found.stdout
    assert "-> standings migrate" in found.stdout
    assert "allkeys-lru" in found.stdout
    assert f"FAIL  Redis {redis_faults.addresses[5]}\n      unreachable" in found.stdout


async def test_replicas(
    database: str,
    postgres: EmbeddedPostgres,
    redis_cluster: EmbeddedRedisCluster,
    standby: Standby,
) -> None:
    """One that follows is well; the primary is none, nor is what has another database, and one
    that does not replay is told by how much.
    """
    await _load_functions(redis_cluster)
    await standby.follow()
    good = standby.dsn_of(database)
    named = {"POSTGRES_DSN": database, "REDIS_NODES": redis_cluster.addresses[0]}

    found = _doctor(**named, POSTGRES_REPLICA_DSNS=good)
    (line,) = [line for line in found.stdout.splitlines() if "replica-1" in line]
    assert line.startswith(f"ok    PostgreSQL replica-1 127.0.0.1:{standby.server.port}/")
    assert "follows within" in line
    assert found.returncode == 0

    others = [database, standby.server.dsn, "postgresql://u:hush-hush@127.0.0.1:1/none"]
    found = _doctor(**named, POSTGRES_REPLICA_DSNS=",".join(others))
    assert found.returncode == 1
    assert "no standby" in found.stdout
    assert "of another database than the primary" in found.stdout
    assert "STANDINGS_POSTGRES_REPLICA_DSNS, and the way between" in found.stdout
    assert "hush" not in found.stdout + found.stderr

    await standby.pause()
    try:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            await connection.execute("create table ours (number integer)")
        found = _doctor(**named, POSTGRES_REPLICA_DSNS=good)
    finally:
        await standby.resume()
    assert "bytes of log" in found.stdout
    assert found.returncode == 1


@pytest.mark.parametrize(
    "dsn",
    ["postgresql://me:hush-hush@127.0.0.1:1/none", "postgresql//me:hush-hush@127.0.0.1:1/none"],
    ids=["unreachable", "malformed"],
)
def test_passwords_are_kept(dsn: str) -> None:
    """No password is printed, whatever is wrong with the address it came in."""
    found = _doctor(POSTGRES_DSN=dsn, REDIS_NODES="127.0.0.1:1", REDIS_PASSWORD="hush-hush")

    assert found.returncode == 1
    assert "hush" not in found.stdout + found.stderr


def test_without_servers_the_programs_are_checked() -> None:
    """Where no server is configured, the embedded programs are found and named."""
    found = _doctor()

    assert found.returncode == 0
    assert found.stdout.count("embedded") >= 2


def test_missing_program(tmp_path: Path) -> None:
    """A program that is not there is named together with the setting that asked for it."""
    found = _doctor(EMBEDDED_REDIS_BINARY=str(tmp_path / "none"))

    assert found.returncode == 1
    assert "STANDINGS_EMBEDDED_REDIS_BINARY" in found.stdout
