"""A server that dies between the commit and the index."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psycopg
import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.settings import Settings
from standings_client import AsyncClient, Board, Operator, Outcome, StandingsError, Submission
from tests.fakes.making import submission_id
from tests.fixtures.processes import server_process
from tests.fixtures.redis import empty
from tests.fixtures.server import Serve, settings_for

pytestmark = pytest.mark.both_engines

USERS = range(1, 301)


def _slow(settings: Settings) -> Settings:
    """One worker, which waits long enough to be killed while the index does not answer."""
    server = settings.server.model_copy(update={"workers": 1})
    slow = {"operation_timeout_s": 30.0, "response_timeout_s": 30.0}
    redis = settings.redis.model_copy(update=slow)
    return settings.model_copy(update={"server": server, "redis": redis})


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
    database: str, redis_faults: EmbeddedRedisCluster, tmp_path: Path, serve: Serve
) -> None:
    """SIGKILL between commit and apply: nothing is lost or doubled, and the index catches up
    within 5 s of the restart.
    """
    cluster = redis_faults
    await empty(cluster)
    settings = settings_for(database, cluster)
    batch = [Submission("arena", user, user, submission_id=submission_id()) for user in USERS]
    async with (
        server_process(_slow(settings), tmp_path) as server,
        AsyncClient(server.address, timeout_s=20) as client,
    ):
        await client.boards.create(Board(board_id="arena", operator=Operator.INCREMENT))
        await client.batch_submit_scores([Submission("arena", user, 1) for user in USERS])
        for node in cluster.addresses:
            cluster.node(node).freeze()
        sending = asyncio.ensure_future(client.batch_submit_scores(batch, timeout_s=15))
        await _committed(database, 2 * len(USERS))
        # The supervisor first: it would start a worker again.
        for pid in (server.process.pid, *server.workers().values()):
            os.kill(pid, signal.SIGKILL)
        for node in cluster.addresses:
            cluster.node(node).thaw()
        with pytest.raises(StandingsError):
            await sending

    async with (
        serve(settings) as addresses,
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
