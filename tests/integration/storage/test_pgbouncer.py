"""Behind a real PgBouncer in transaction mode: what the pools rely on holds there, too.

The tests of the adapters marked `every_way` run through it as well.
"""

import asyncio
import configparser
import subprocess
import sys
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr, ValidationError

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.settings import Settings
from cli.serving import serving
from core.errors import LedgerUnavailable
from standings_client import AsyncClient, Board, Operator
from storage.leadership import PostgresLeadership
from storage.pool import execute, open_pool, query
from storage.sessions import PoolUse, connect_query, session_settings
from storage.settings import PostgresSettings
from storage.statement import Statement
from tests.fixtures.pgbouncer import POOL_SIZE, SHIPPED, Pooler, pooling
from tests.fixtures.redis import empty
from tests.fixtures.server import settings_for

pytestmark = pytest.mark.pgbouncer

_SET = Statement.of("""
select lower(name), setting from pg_settings where lower(name) = any(%(names)s::text[])
""")
_BACKEND = Statement.of("select pg_backend_pid(), %(number)s::integer + 1")


@pytest.fixture
async def pooler(database: str, postgres_settings: PostgresSettings) -> AsyncIterator[Pooler]:
    """A PgBouncer before a fresh database."""
    async with pooling(postgres_settings, database) as pooler:
        yield pooler


def _doctor(pooler: Pooler, cluster: EmbeddedRedisCluster, **settings: str) -> str:
    environment = {
        "STANDINGS_POSTGRES_DSN": pooler.dsn,
        "STANDINGS_POSTGRES_DIRECT_DSN": pooler.direct_dsn,
        "STANDINGS_POSTGRES_TRANSACTION_POOLER": "true",
        "STANDINGS_REDIS_NODES": cluster.addresses[0],
        **settings,
    }
    command = [sys.executable, "-m", "cli", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.stdout


def test_the_shipped_file_sets_what_the_settings_ask_for() -> None:
    """Each entry's connect_query is the one of the default settings."""
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(SHIPPED.read_text())

    for use in PoolUse:
        expected = f"connect_query='{connect_query(PostgresSettings(), use)}'"
        assert expected in parsed["databases"][f"standings_{use.value}"]


@pytest.mark.parametrize("use", PoolUse)
async def test_sessions_are_set_the_same(
    pooler: Pooler, postgres_settings: PostgresSettings, use: PoolUse
) -> None:
    """Planner, time limits and time zone are those that a pool of its own would ask for."""
    settings = pooler.settings(postgres_settings)
    names = {"names": list(session_settings(settings, use))}

    async with open_pool(settings, pooler.dsn, use) as pool:
        await pool.wait(10)
        found = [await query(pool, _SET, names, timeout_s=5) for _ in range(3)]

    assert all(dict(rows) == session_settings(settings, use) for rows in found)


async def test_statements_are_prepared_on_whatever_connection_comes(
    pooler: Pooler, postgres_settings: PostgresSettings
) -> None:
    """Clients beyond the server's connections are moved between these, and each finds its own
    statement there, prepared once a connection.
    """
    settings = pooler.settings(postgres_settings)
    dsn = make_conninfo(pooler.dsn, dbname="standings_write")

    async def ask(number: int) -> set[int]:
        backends = set()
        async with await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, prepare_threshold=1
        ) as connection:
            for turn in range(40):
                async with connection.transaction():
                    ((pid, answer),) = await execute(
                        connection, _BACKEND, {"number": number * 100 + turn}
                    )
                backends.add(pid)
                assert answer == number * 100 + turn + 1
        return backends

    seen = await asyncio.gather(*(ask(number) for number in range(24)))
    prepared = Statement.of(
        "select count(*) from pg_prepared_statements where statement like %(text)s"
    )
    async with open_pool(settings, pooler.dsn, PoolUse.WRITE) as pool:
        rows = await query(pool, prepared, {"text": "%pg_backend_pid()%"}, timeout_s=5)

    assert len(set().union(*seen)) <= POOL_SIZE
    assert any(len(backends) > 1 for backends in seen)
    assert rows == [(1,)]


async def test_only_one_leads_and_by_the_direct_way(
    pooler: Pooler, postgres_settings: PostgresSettings
) -> None:
    """The lock of the jobs is a session's, and holds however many ask."""
    settings = pooler.settings(postgres_settings)
    assert settings.direct_dsn is not None
    leaders = [PostgresLeadership(settings.direct_dsn.get_secret_value()) for _ in range(3)]
    leading: list[int] = []
    began = asyncio.Event()

    async def work(number: int) -> None:
        leading.append(number)
        began.set()
        await asyncio.Event().wait()

    tasks = [
        asyncio.ensure_future(leader.lead(lambda number=number: work(number)))
        for number, leader in enumerate(leaders)
    ]
    async with asyncio.timeout(10):
        await began.wait()
    async with await psycopg.AsyncConnection.connect(pooler.direct_dsn) as connection:
        cursor = await connection.execute(
            "select application_name, granted from pg_locks join pg_stat_activity using (pid) "
            "where locktype = 'advisory' and pg_locks.database = "
            "(select oid from pg_database where datname = current_database())"
        )
        locks = await cursor.fetchall()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert len(leading) == 1
    assert locks == [("standings-leader", True)]


async def test_a_pooler_that_comes_back_is_used_again(
    pooler: Pooler, postgres_settings: PostgresSettings
) -> None:
    """While it is stopped callers are refused in time; afterwards nobody has to do anything."""
    settings = pooler.settings(postgres_settings)
    async with open_pool(settings, pooler.dsn, PoolUse.READ) as pool:
        await query(pool, _BACKEND, {"number": 1}, timeout_s=5)
        pooler.child.freeze()
        with pytest.raises(LedgerUnavailable):
            await query(pool, _BACKEND, {"number": 2}, timeout_s=0.2)
        pooler.child.thaw()
        rows = await query(pool, _BACKEND, {"number": 3}, timeout_s=5, idempotent=True)

    assert rows[0][1] == 4


@pytest.mark.parametrize(
    "settings",
    [
        {"dsn": SecretStr("host=db dbname=standings")},
        {"dsn": SecretStr("host=db"), "direct_dsn": SecretStr("host=db")},
        {"direct_dsn": SecretStr("host=db dbname=standings")},
    ],
    ids=["no way past it", "no database", "no way through it"],
)
def test_half_a_configuration_stops_the_start(settings: dict[str, SecretStr]) -> None:
    """Session locks need the direct way, and the entries are named after the database."""
    with pytest.raises(ValidationError, match="transaction_pooler needs"):
        PostgresSettings(transaction_pooler=True, **settings)


async def test_doctor_compares_the_sessions(
    pooler: Pooler, redis_cluster: EmbeddedRedisCluster
) -> None:
    """An entry whose sessions are set otherwise is named, with what to write instead."""
    # What the pooler was configured for; the defaults ask for other limits.
    same = {f"STANDINGS_POSTGRES_{name}_TIMEOUT_MS": "10000" for name in ("WRITE", "READ", "LOCK")}

    right = _doctor(pooler, redis_cluster, **same)
    other = same | {"STANDINGS_POSTGRES_WRITE_TIMEOUT_MS": "700"}
    wrong = _doctor(pooler, redis_cluster, **other)

    assert [line[:26] for line in right.splitlines() if "PgBouncer" in line] == [
        "ok    PgBouncer standings_"
    ] * len(PoolUse)
    assert "FAIL  PgBouncer standings_write" in wrong
    assert "its sessions are set otherwise: statement_timeout" in wrong
    assert "connect_query='set statement_timeout = 700; " in wrong


async def test_a_whole_server_behind_it(
    pooler: Pooler, redis_cluster: EmbeddedRedisCluster
) -> None:
    """Boards, scores, ranks, deletions and operators: the same answers as without it."""
    await empty(redis_cluster)
    base = settings_for(pooler.direct_dsn, redis_cluster)
    settings = base.model_copy(update={"postgres": pooler.settings(base.postgres)})
    async with (
        serving(settings) as addresses,
        AsyncClient(addresses.public, timeout_s=20) as client,
    ):
        await client.boards.create(Board(board_id="pooled", operator=Operator.BEST))
        await asyncio.gather(*(client.submit_score("pooled", user, user) for user in range(1, 201)))
        again = await client.submit_score("pooled", 7, 1_000, return_rank=True)
        page = await client.list_entries("pooled", start_rank=100, page_size=3)
        await client.delete_entry("pooled", 7)
        first = await client.list_entries("pooled", page_size=1)

    assert again.entry is not None
    assert again.entry.rank == 1
    assert [entry.user_id for entry in page.entries] == [102, 101, 100]
    assert [entry.user_id for entry in first.entries] == [200]
    assert Settings.load(settings.environment()).postgres.transaction_pooler
