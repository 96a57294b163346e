"""Rows 10 to 15: the ledger, and row 17: both stores."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Final

import psycopg

from chaos.proxy import Fault, Mode
from chaos.row import Expected, Row, Scene
from chaos.rows.redis import mend, until_open

_OPEN_S_MAX: Final = 1.0
"""A flush asks for its number first, for 0.2 s at most; three such losses open the breaker."""
_END_ALL: Final = """
select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'standings-%'
"""


async def restart_fast(scene: Scene) -> None:
    """Sessions are cut off, then it is there again; then once more, without a goodbye."""
    postgres = scene.deployment.stack.postgres
    await postgres.restart()
    await asyncio.sleep(scene.seconds(8, 4))
    await postgres.kill()
    await postgres.restart()
    await asyncio.sleep(scene.seconds(8, 4))


async def freeze(scene: Scene) -> None:
    """It neither answers nor closes anything."""
    postgres = scene.deployment.stack.postgres
    postgres.freeze()
    await until_open(scene, "postgres/", within_s=_OPEN_S_MAX)
    await asyncio.sleep(scene.seconds(20, 6))


async def slow_down(scene: Scene) -> None:
    """Somebody holds a lock on the entries, then the way to it becomes long."""
    dsn = scene.deployment.stack.postgres_dsn
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("lock table entries in share mode")
        await asyncio.sleep(scene.seconds(8, 4))
    scene.deployment.postgres_proxy.set(Fault(Mode.DELAY, delay_s=0.3))
    await asyncio.sleep(scene.seconds(8, 4))


async def exhaust_connections(scene: Scene) -> None:
    """Idle sessions take all there are, and the server's own are ended."""
    dsn = scene.deployment.stack.postgres_dsn
    async with AsyncExitStack() as stack:
        watcher = await stack.enter_async_context(
            await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        )
        await watcher.execute(_END_ALL)
        with suppress(psycopg.OperationalError):
            while True:
                idle = await psycopg.AsyncConnection.connect(dsn)
                stack.push_async_callback(idle.close)
        # The server may have been quicker: what it got back is taken once more.
        await watcher.execute(_END_ALL)
        with suppress(psycopg.OperationalError):
            while True:
                idle = await psycopg.AsyncConnection.connect(dsn)
                stack.push_async_callback(idle.close)
        await asyncio.sleep(scene.seconds(10, 5))


async def take_both_down(scene: Scene) -> None:
    """All of Redis, and PostgreSQL."""
    deployment = scene.deployment
    await asyncio.gather(
        deployment.stack.postgres.kill(), *(node.kill() for node in deployment.nodes)
    )
    await asyncio.sleep(scene.seconds(15, 6))
    await asyncio.gather(deployment.stack.postgres.restart(), deployment.stack.redis.heal())


async def nothing(scene: Scene) -> None:
    """A row that cannot run."""


ROWS: Final = (
    Row(
        10, "PostgreSQL restarted, then killed", restart_fast, mend, short=True,
        expected=Expected(reads_min=0.999, live=True),
    ),
    Row(
        11, "standby behind, then dead", nothing, nothing,
        missing="no reads go to standbys, so there is none to fall behind",
    ),
    Row(
        12, "PostgreSQL frozen", freeze, mend, short=True,
        expected=Expected(reads_min=0.99, heals_s=5.0),
    ),
    Row(
        13, "PostgreSQL slow", slow_down, mend,
        expected=Expected(reads_min=0.99, also_told=frozenset({"ABORTED"})),
    ),
    Row(
        14, "PostgreSQL out of connections", exhaust_connections, mend,
        expected=Expected(reads_min=0.99),
    ),
    Row(
        15, "PostgreSQL's disk full", nothing, nothing,
        missing="needs a small file system of its own, which takes rights that few have",
    ),
    Row(
        17, "both stores down", take_both_down, mend, short=True, index="down", ledger="down",
        expected=Expected(
            reads_min=None, tops_min=0.95, sources=frozenset({"SNAPSHOT", "CACHE"}),
            heals_s=20.0, converges_s=60.0,
        ),
    ),
)  # fmt: skip
