"""A server that dies between the commit and the index."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import psycopg
import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.settings import Settings
from cli.serving import serving
from standings_client import AsyncClient, Board, Operator, Outcome, StandingsError, Submission
from tests.fakes.making import submission_id
from tests.fixtures.redis import empty
from tests.fixtures.server import settings_for

pytestmark = pytest.mark.both_engines

USERS = range(1, 301)


@asynccontextmanager
async def _server_process(environment: Mapping[str, str]) -> AsyncIterator[tuple[int, str]]:
    """A server in a process of its own: its pid, and where it listens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli",
        "serve",
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        yield process.pid, line.split("listening on ")[1].split(",")[0]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _environment(settings: Settings) -> Mapping[str, str]:
    dsn = settings.postgres.dsn
    assert dsn is not None
    return {
        "STANDINGS_POSTGRES_DSN": dsn.get_secret_value(),
        "STANDINGS_POSTGRES_WRITE_TIMEOUT_MS": "10000",
        "STANDINGS_REDIS_NODES": ",".join(settings.redis.nodes),
        # Long enough to be killed while the index does not answer.
        "STANDINGS_REDIS_OPERATION_TIMEOUT_S": "30",
        "STANDINGS_REDIS_RESPONSE_TIMEOUT_S": "30",
        "STANDINGS_SERVER_ADDRESS": "127.0.0.1:0",
        "STANDINGS_SERVER_ADMIN_ADDRESS": "127.0.0.1:0",
        "STANDINGS_LOG_LEVEL": "WARNING",
    }


async def _committed(database: str, count: int) -> None:
    """Returns when so many submissions are committed."""
    async with (
        asyncio.timeout(30),
        await psycopg.AsyncConnection.connect(database, autocommit=True) as connection,
    ):
        while True:
            cursor = await connection.execute("select count(*) from score_events")
            row = await cursor.fetchone()
            if row is not None and row[0] >= count:
                return


async def _scores(client: AsyncClient) -> dict[int, int]:
    return {
        entry.user_id: entry.score async for entry in client.iter_entries("arena", page_size=1_000)
    }


async def test_what_was_committed_before_a_kill_is_indexed_after_it(
    database: str, redis_faults: EmbeddedRedisCluster
) -> None:
    """SIGKILL between commit and apply: nothing is lost or doubled, and the index catches up
    within 5 s of the restart.
    """
    cluster = redis_faults
    await empty(cluster)
    settings = settings_for(database, cluster)
    batch = [Submission("arena", user, user, submission_id=submission_id()) for user in USERS]
    async with (
        _server_process(_environment(settings)) as (pid, address),
        AsyncClient(address, timeout_s=20) as client,
    ):
        await client.boards.create(Board(board_id="arena", operator=Operator.INCREMENT))
        await client.batch_submit_scores([Submission("arena", user, 1) for user in USERS])
        for node in cluster.addresses:
            cluster.node(node).freeze()
        sending = asyncio.ensure_future(client.batch_submit_scores(batch, timeout_s=15))
        await _committed(database, 2 * len(USERS))
        os.kill(pid, signal.SIGKILL)
        for node in cluster.addresses:
            cluster.node(node).thaw()
        with pytest.raises(StandingsError):
            await sending

    async with (
        serving(settings) as addresses,
        AsyncClient(addresses.public, timeout_s=20) as client,
    ):
        expected = {user: user + 1 for user in USERS}
        async with asyncio.timeout(5):
            while True:
                try:
                    if await _scores(client) == expected:
                        break
                except StandingsError:
                    continue

        again = await client.batch_submit_scores(batch)
        assert {item.outcome for item in again.results} == {Outcome.DUPLICATE}  # type: ignore[union-attr]
        assert await _scores(client) == expected
