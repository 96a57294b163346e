"""What the compose file's containers are given, run on real servers: the cluster's script and
users, PostgreSQL's roles and its replica.
"""

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from bootstrap.embedded.binaries import debian_postgres, find_redis
from bootstrap.embedded.child import Child, Command
from bootstrap.embedded.ports import LOOPBACK, free_ports
from bootstrap.embedded.waiting import until
from cli.serving import serving
from sharding.keys import SLOTS, meta_key
from sharding.settings import RedisSettings
from standings_client import AsyncClient, Board, Operator
from tests.fixtures.server import settings_with

FOLDER: Final = Path(__file__).parents[2] / "deploy/compose"
_NOBODY: Final = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that servers can enter, whoever they run as where root may not run them."""
    with tempfile.TemporaryDirectory(prefix="standings-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def secrets(folder: Path) -> Path:
    """What make-secrets.sh makes."""
    secrets = folder / "secrets"
    subprocess.run(["sh", FOLDER / "make-secrets.sh", secrets], check=True)
    secrets.chmod(0o755)
    return secrets


@dataclass(frozen=True)
class Nodes:
    """Six nodes with the shipped configuration, made a cluster by the shipped script."""

    ports: Sequence[int]
    secrets: Path

    def word(self, name: str) -> str:
        """A password."""
        return (self.secrets / name).read_text().strip()

    def client(self, port: int, user: str, secret: str) -> Redis:
        """A connection to one node as one of its users."""
        word = self.word(secret) if secret else None
        return Redis(host=LOOPBACK, port=port, username=user, password=word, decode_responses=True)

    def form(self) -> subprocess.CompletedProcess[str]:
        """Runs the script."""
        return subprocess.run(
            ["bash", FOLDER / "redis/form-cluster.sh", *(f"{LOOPBACK}:{p}" for p in self.ports)],
            env={
                **os.environ,
                "OPERATOR_PASSWORD_FILE": str(self.secrets / "redis_operator_password"),
            },
            capture_output=True,
            text=True,
            check=True,
        )

    @property
    def settings(self) -> RedisSettings:
        """How the server finds them, and who it is there."""
        return RedisSettings(
            nodes=tuple(f"{LOOPBACK}:{port}" for port in self.ports),
            username="standings",
            password=SecretStr(self.word("redis_password")),
            admin_username="loader",
            admin_password=SecretStr(self.word("redis_admin_password")),
            operation_timeout_s=5,
            read_timeout_s=5,
            response_timeout_s=5,
        )


@pytest.fixture
async def nodes(secrets: Path, folder: Path) -> AsyncIterator[Nodes]:
    """A whole cluster; skips where there is no redis-cli to make it with."""
    if shutil.which("redis-cli") is None:
        pytest.skip("there is no redis-cli, which the script makes the cluster with")
    nodes = Nodes(free_ports(6), secrets)
    async with AsyncExitStack() as stack:
        for port in nodes.ports:
            stack.push_async_callback(_node(folder, secrets, port).kill)
        await _up(nodes)
        nodes.form()
        yield nodes


def _node(folder: Path, secrets: Path, port: int) -> Child:
    """A node with the shipped configuration, on loopback."""
    home = folder / str(port)
    home.mkdir()
    (bus_port,) = free_ports(1)
    changes = {
        "/run/secrets": str(secrets),
        "port 6379": f"port {port}\ncluster-port {bus_port}",
        "dir /data": f"dir {home}\nbind {LOOPBACK}",
    }
    text = (FOLDER / "redis/redis.conf").read_text()
    for shipped, ours in changes.items():
        assert shipped in text
        text = text.replace(shipped, ours)
    config = home / "redis.conf"
    config.write_text(text)
    return Child(Command([str(find_redis()), str(config)], home / "log", signal.SIGKILL))


async def _up(nodes: Nodes) -> None:
    async def answer() -> bool:
        try:
            for port in nodes.ports:
                # As the health check asks: without a password.
                async with nodes.client(port, "default", "") as client:
                    await client.ping()
        except RedisError:
            return False
        return True

    assert await until(answer, timeout_s=20)


async def test_the_cluster_is_balanced_and_formed_once(nodes: Nodes) -> None:
    """Three primaries with five or six of the sixteen shards, each with a replica that is in step
    by its own user's password; a second run of the script leaves it as it is.
    """
    again = nodes.form()
    whole = await until(lambda: _replicated(nodes), timeout_s=20)

    assert again.stdout == "the cluster is there\n"
    assert await _shares(nodes) == [5, 5, 6]
    assert whole


async def _replicated(nodes: Nodes) -> bool:
    roles = []
    for port in nodes.ports:
        async with nodes.client(port, "operator", "redis_operator_password") as client:
            roles.append(await client.execute_command("ROLE"))
    replicas = [role for role in roles if role[0] == "slave"]
    return len(replicas) == 3 and all(role[3] == "connected" for role in replicas)


async def test_the_users_may_do_what_they_need(nodes: Nodes, database: str) -> None:
    """A whole server works as `standings` and `loader`: boards, scores, reads, deletions, a
    rebuild, a verification; and `doctor` finds nothing wrong.
    """
    settings = settings_with(database, nodes.settings.nodes)
    settings = settings.model_copy(update={"redis": nodes.settings})
    async with (
        serving(settings) as addresses,
        AsyncClient(addresses.public, timeout_s=20) as client,
    ):
        await client.boards.create(Board(board_id="acl", operator=Operator.BEST))
        await asyncio.gather(*(client.submit_score("acl", user, user) for user in range(1, 101)))
        await client.delete_entry("acl", 50)
        admin = {**settings.environment(), "STANDINGS_SERVER_ADMIN_ADDRESS": addresses.admin}
        told = [await _cli(admin, *words) for words in (("rebuild",), ("verify",), ("doctor",))]
        page = await client.list_entries("acl", start_rank=50, page_size=2)

    assert [code for code, _ in told] == [0, 0, 0], told
    assert [entry.user_id for entry in page.entries] == [51, 49]
    assert page.meta.source.name == "INDEX"


async def _cli(environment: dict[str, str], *words: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", *words),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_nodes_join_under_load(nodes: Nodes, folder: Path, database: str) -> None:
    """The commands of docs/growing.md: a fourth pair takes its part of the shards while scores come
    in, and each of these is acknowledged and ranked.
    """
    more = Nodes(free_ports(2), nodes.secrets)
    settings = settings_with(database, nodes.settings.nodes)
    settings = settings.model_copy(update={"redis": nodes.settings})
    async with (
        AsyncExitStack() as stack,
        serving(settings) as addresses,
        AsyncClient(addresses.public, timeout_s=20) as client,
    ):
        for port in more.ports:
            stack.push_async_callback(_node(folder, nodes.secrets, port).kill)
        await _up(more)
        await client.boards.create(Board(board_id="growing", operator=Operator.BEST))
        joined = asyncio.Event()
        users = itertools.count(1)
        writers = [asyncio.create_task(_write(client, users, joined)) for _ in range(8)]
        first, new, replica = (f"{LOOPBACK}:{port}" for port in (nodes.ports[0], *more.ports))
        await _grow(nodes, "add-node", new, first)
        await _grow(nodes, "add-node", replica, first, "--cluster-slave")
        await _known(Nodes([*nodes.ports, *more.ports], nodes.secrets))
        options = ("--cluster-use-empty-masters", "--cluster-threshold", "1")
        await _grow(nodes, "rebalance", first, *options)
        joined.set()
        written = set().union(*await asyncio.gather(*writers))
        top = await client.list_entries("growing", page_size=1)
        admin = {**settings.environment(), "STANDINGS_SERVER_ADMIN_ADDRESS": addresses.admin}
        verified = await _cli(admin, "verify")
    shares = await _shares(nodes)

    assert len(written) > 100
    assert top.meta.entry_count == len(written)
    assert verified[0] == 0, verified
    assert len(shares) == 4
    assert min(shares) >= 3


async def _write(client: AsyncClient, users: Iterator[int], joined: asyncio.Event) -> set[int]:
    """The users whose score was acknowledged; any that is not ends the test."""
    written = set()
    while not joined.is_set():
        user = next(users)
        await client.submit_score("growing", user, user)
        written.add(user)
    return written


async def _grow(nodes: Nodes, *words: str) -> None:
    """A command of redis-cli's, again while the cluster still takes in the one before."""

    async def done() -> bool:
        process = await asyncio.create_subprocess_exec(
            *("redis-cli", "--no-auth-warning", "--user", "operator", "--cluster", *words),
            env=os.environ | {"REDISCLI_AUTH": nodes.word("redis_operator_password")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        told.append(output.decode())
        return process.returncode == 0

    told: list[str] = []
    assert await until(done, timeout_s=30, interval_s=1), told[0][-1500:]


async def _known(nodes: Nodes) -> None:
    """Waits until each node has heard of all of them: it would not give a slot to a stranger."""

    async def by_all() -> bool:
        counts = set()
        for port in nodes.ports:
            async with nodes.client(port, "operator", "redis_operator_password") as client:
                # Word by word: redis-py reshapes the answers to commands it knows by full name.
                text = await client.execute_command("CLUSTER", "INFO")
            counts.add(dict(line.split(":", 1) for line in text.split())["cluster_known_nodes"])
        return counts == {str(len(nodes.ports))}

    assert await until(by_all, timeout_s=30)


async def _shares(nodes: Nodes) -> list[int]:
    """How many of the sixteen shards each primary has."""
    async with nodes.client(nodes.ports[0], "operator", "redis_operator_password") as client:
        ranges = await client.execute_command("CLUSTER", "SLOTS")
    counts: Counter[str] = Counter()
    for first, last, (_, _, name, *_), *_ in ranges:
        counts[name] += sum(first <= slot <= last for slot in SLOTS)
    return sorted(counts.values())


async def test_the_users_may_do_no_more(nodes: Nodes) -> None:
    """Neither the index's user nor whoever comes without a password can look at or end the rest."""
    refused = [
        ("standings", "redis_password", ("CONFIG", "GET", "*")),
        ("standings", "redis_password", ("FLUSHALL",)),
        ("standings", "redis_password", ("KEYS", "*")),
        ("standings", "redis_password", ("GET", "other")),
        ("standings", "redis_password", ("FUNCTION", "FLUSH")),
        ("loader", "redis_admin_password", ("GET", meta_key(0).decode())),
        ("default", "", ("INFO",)),
    ]

    for user, secret, command in refused:
        async with nodes.client(nodes.ports[0], user, secret) as client:
            with pytest.raises(NoPermissionError):
                await client.execute_command(*command)


async def test_a_replica_follows(secrets: Path, folder: Path) -> None:
    """The shipped configuration, roles and script: a standby that has what its primary has, and
    again after it was restarted. Skips where PostgreSQL 15 is not installed.
    """
    programs = debian_postgres(15)
    if programs is None:
        pytest.skip("PostgreSQL 15, whose programs the scripts run here, is not installed")
    cluster = _Cluster(folder, secrets, programs)
    cluster.initialise()
    async with AsyncExitStack() as stack:
        primary = cluster.serve("primary", cluster.ports[0])
        stack.push_async_callback(primary.kill)
        await cluster.up(cluster.ports[0], "postgres", "postgres_password")
        cluster.create_roles()
        async with cluster.connect(cluster.ports[0]) as connection:
            await connection.execute("create table told as select 1 as number")
        replica = cluster.follow()
        stack.push_async_callback(replica.kill)
        await cluster.up(cluster.ports[1], "standings", "standings_password")
        first = await cluster.numbers(cluster.ports[1], 1)
        await replica.stop(signal.SIGINT, timeout_s=20)
        async with cluster.connect(cluster.ports[0]) as connection:
            await connection.execute("insert into told values (2)")
        replica = cluster.follow()
        stack.push_async_callback(replica.kill)
        await cluster.up(cluster.ports[1], "standings", "standings_password")
        second = await cluster.numbers(cluster.ports[1], 2)

    assert (first, second) == ([1], [1, 2])


class _Cluster:
    """A primary and a replica in one folder, as whoever PostgreSQL agrees to run as."""

    def __init__(self, folder: Path, secrets: Path, programs: Path) -> None:
        self.ports = free_ports(2)
        self._secrets = secrets
        self._programs = programs
        self._folder = folder / "postgres"
        self._folder.mkdir()
        text = (FOLDER / "postgres/postgresql.conf").read_text()
        hba = self._folder / "pg_hba.conf"
        shutil.copy(FOLDER / "postgres/pg_hba.conf", hba)
        self._config = self._folder / "postgresql.conf"
        self._config.write_text(
            text.replace("/etc/postgresql/pg_hba.conf", str(hba))
            + "unix_socket_directories = ''\nshared_buffers = 32MB\nfsync = off\n"
        )
        self._identity = str(_NOBODY) if os.geteuid() == 0 else "same"
        if os.geteuid() == 0:
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, _NOBODY, _NOBODY)

    def initialise(self) -> None:
        """What the image's entry point does first."""
        self._run(
            *(self._programs / "initdb", "-D", self._folder / "primary", "-U", "postgres"),
            *("-A", "scram-sha-256", f"--pwfile={self._secrets / 'postgres_password'}"),
            "--no-sync",
        )

    def serve(self, name: str, port: int) -> Child:
        """A server on one of the folders."""
        return self._child(
            self._programs / "postgres",
            *("-D", self._folder / name, "-c", f"config_file={self._config}", "-p", port),
        )

    def create_roles(self) -> None:
        """The script of the first start."""
        self._run(
            *("bash", FOLDER / "postgres/create-roles.sh"),
            SECRETS=str(self._secrets),
            POSTGRES_USER="postgres",
            PGHOST=LOOPBACK,
            PGPORT=str(self.ports[0]),
            PGPASSWORD=(self._secrets / "postgres_password").read_text().strip(),
        )

    def follow(self) -> Child:
        """The replica's script."""
        variables = {
            "PGDATA": str(self._folder / "replica"),
            "PGPORT": str(self.ports[1]),
            "PRIMARY_HOST": LOOPBACK,
            "PRIMARY_PORT": str(self.ports[0]),
            "REPLICATION_PASSWORD_FILE": str(self._secrets / "replication_password"),
            "SLOT": "standings_replica",
            "TMPDIR": str(self._folder),
            "CONFIG": str(self._config),
            "PATH": f"{self._programs}:{os.environ['PATH']}",
        }
        given = [f"{name}={value}" for name, value in variables.items()]
        return self._child("/usr/bin/env", *given, "/bin/bash", FOLDER / "postgres/follow.sh")

    async def up(self, port: int, user: str, secret: str) -> None:
        """Waits for a server that lets this user in."""

        async def let_in() -> bool:
            try:
                async with await self._login(port, user, secret):
                    return True
            except psycopg.OperationalError:
                return False

        assert await until(let_in, timeout_s=30), (self._folder / "log").read_text()

    async def _login(self, port: int, user: str, secret: str) -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(
            host=LOOPBACK,
            port=port,
            user=user,
            dbname=user,
            password=(self._secrets / secret).read_text().strip(),
            autocommit=True,
        )

    @asynccontextmanager
    async def connect(self, port: int) -> AsyncIterator[psycopg.AsyncConnection]:
        """A connection as the server's user."""
        async with await self._login(port, "standings", "standings_password") as connection:
            yield connection

    async def numbers(self, port: int, count: int) -> list[int]:
        """The rows of the test's table, when there are so many."""
        found: list[int] = []

        async def are_there() -> bool:
            async with self.connect(port) as connection:
                cursor = await connection.execute("select number from told order by number")
                found[:] = [row[0] for row in await cursor.fetchall()]
            return len(found) >= count

        await until(are_there, timeout_s=20)
        return found

    def _child(self, *arguments: object) -> Child:
        log = self._folder / "log"
        return Child(Command(list(map(str, arguments)), log, signal.SIGKILL, self._identity))

    def _run(self, *arguments: object, **variables: str) -> None:
        user = _NOBODY if os.geteuid() == 0 else None
        done = subprocess.run(
            list(map(str, arguments)),
            env={"PATH": f"{self._programs}:{os.environ['PATH']}", **variables},
            capture_output=True,
            text=True,
            check=False,
            user=user,
            cwd=self._folder,
        )
        assert done.returncode == 0, done.stdout + done.stderr
