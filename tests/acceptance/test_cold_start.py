"""A server that starts while both stores are away answers from what its machine has kept."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.embedded.waiting import until
from bootstrap.settings import Settings
from bootstrap.snapshot_files import SnapshotFiles
from core.clock import SystemClock
from standings_client import (
    AsyncClient,
    Board,
    Outcome,
    Source,
    Staleness,
    StandingsError,
    Submission,
    Unavailable,
)
from tests.fixtures.redis import empty
from tests.fixtures.server import Serve, settings_for

USERS = range(1, 101)


def _impatient(settings: Settings) -> Settings:
    """As a server that is used to healthy stores."""
    short = {"operation_timeout_s": 0.5, "read_timeout_s": 0.2, "response_timeout_s": 0.2}
    postgres = {"pool_timeout_s": 0.5, "read_timeout_ms": 300, "write_timeout_ms": 800}
    return settings.model_copy(
        update={
            "redis": settings.redis.model_copy(update=short),
            "postgres": settings.postgres.model_copy(update=postgres),
        }
    )


async def _kept(settings: Settings) -> bool:
    """Whether there is a snapshot with everybody in it."""
    files = SnapshotFiles(settings.state.directory, SystemClock())
    snapshot = files.newest(1)
    return snapshot is not None and snapshot.entry_count() == len(USERS)


async def _writes(client: AsyncClient) -> bool:
    """Whether a submission is taken."""
    try:
        result = await client.submit_score("arena", 7, 1_000)
    except StandingsError:
        return False
    return result.outcome is Outcome.APPLIED


async def _reads_the_ledger(client: AsyncClient) -> bool:
    """Whether the submission is seen."""
    page = await client.list_entries("arena", page_size=1)
    return (page.entries[0].user_id, page.meta.source) == (7, Source.DATABASE)


async def test_a_start_without_either_store(
    database: str,
    redis_faults: EmbeddedRedisCluster,
    postgres_faults: EmbeddedPostgres,
    serve: Serve,
) -> None:
    """The top page and the rank of a top user come from the snapshot, and say how old it is; nobody
    is told that a user has no entry; nothing is taken in. When PostgreSQL is back, all goes on.
    """
    await empty(redis_faults)
    settings = _impatient(settings_for(database, redis_faults))
    async with serve(settings) as addresses, AsyncClient(addresses.public) as client:
        await client.boards.create(Board(board_id="arena"))
        await client.batch_submit_scores([Submission("arena", user, user) for user in USERS])
        assert await until(partial(_kept, settings), timeout_s=20)
    await postgres_faults.kill()
    for node in redis_faults.nodes:
        await node.kill()

    async with (
        serve(settings) as addresses,
        AsyncClient(addresses.public, timeout_s=5) as client,
    ):
        page = await client.list_entries("arena", page_size=10)
        assert [(e.user_id, e.rank) for e in page.entries] == [
            (101 - rank, rank) for rank in range(1, 11)
        ]
        assert page.meta.source is Source.SNAPSHOT
        assert page.meta.staleness > timedelta()
        assert page.meta.entry_count == len(USERS)
        answer = await client.get_entry("arena", 98)
        assert (answer.entry.rank, answer.entry.rank_low, answer.entry.rank_high) == (3, 3, 3)
        assert answer.meta.source is Source.SNAPSHOT
        with pytest.raises(Staleness):
            await client.get_entry("arena", 97, max_staleness=timedelta(milliseconds=1))
        with pytest.raises(Unavailable):
            await client.get_entry("arena", 424242)
        with pytest.raises(Unavailable):
            await client.submit_score("arena", 7, 1_000)
        with pytest.raises(Unavailable):
            await client.list_entries("unknown", page_size=10)

        await postgres_faults.restart()
        assert await until(partial(_writes, client), timeout_s=30)
        assert await until(partial(_reads_the_ledger, client), timeout_s=30)
