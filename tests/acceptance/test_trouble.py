"""What a review once broke, held over the wire."""

from __future__ import annotations

import asyncio
import time

import pytest

from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.settings import Settings
from standings_client import AsyncClient, Board, Outcome, StandingsError, Submission, SubmitResult
from tests.fakes.making import submission_id
from tests.fixtures.redis import empty
from tests.fixtures.server import RunningServer, Serve, settings_for

pytestmark = pytest.mark.both_transports


async def test_boards_made_at_once_are_all_there(standings: RunningServer) -> None:
    """Thirty callers make boards: none is told that it failed, and each can be used."""
    client = standings.client
    names = [f"board-{number}" for number in range(30)]

    await asyncio.gather(*(client.boards.create(Board(board_id=name)) for name in names))

    for name in names:
        assert (await client.submit_score(name, 1, 1, return_rank=True)).outcome is Outcome.APPLIED


async def test_the_token_of_many_transactions_is_taken_back(standings: RunningServer) -> None:
    """Single submissions retried as one batch: its token names them all, and a read takes it."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    sent = [
        Submission("arena", user, user, submission_id=submission_id()) for user in range(1, 401)
    ]
    for item in sent:
        await client.submit_score(
            "arena", item.user_id, item.score, submission_id=item.submission_id
        )

    batch = await client.batch_submit_scores(sent)
    answer = await client.get_entry("arena", 1, consistency_token=batch.consistency_token)

    outcomes = {item.outcome for item in batch.results if isinstance(item, SubmitResult)}
    assert outcomes == {Outcome.DUPLICATE}
    assert answer.entry.rank == 400


async def test_a_silent_database_costs_no_more_than_the_deadline_and_lets_go(
    database: str,
    redis_cluster: EmbeddedRedisCluster,
    postgres_faults: EmbeddedPostgres,
    serve: Serve,
) -> None:
    """Callers are told in time, what hung is given up, and afterwards all goes on as before."""
    await empty(redis_cluster)
    settings = _impatient(settings_for(database, redis_cluster))
    async with serve(settings) as addresses, AsyncClient(addresses.public) as client:
        await client.boards.create(Board(board_id="arena"))
        await client.submit_score("arena", 1, 1)
        postgres_faults.freeze()
        started = time.monotonic()
        calls = [client.submit_score("arena", user, 5, timeout_s=1) for user in range(1, 20)]
        results = await asyncio.gather(*calls, return_exceptions=True)

        assert time.monotonic() - started < 5
        assert all(isinstance(result, StandingsError) for result in results)
        postgres_faults.thaw()
        async with asyncio.timeout(15):
            while True:
                try:
                    await client.submit_score("arena", 1, 7)
                    break
                except StandingsError:
                    continue
        assert (await client.get_entry("arena", 1)).entry.score == 7


async def test_a_score_is_taken_while_the_index_is_silent(
    database: str, redis_faults: EmbeddedRedisCluster, serve: Serve
) -> None:
    """The answer says that the index does not show it, and soon after the index does."""
    await empty(redis_faults)
    settings = settings_for(database, redis_faults)
    redis = settings.redis.model_copy(
        update={"operation_timeout_s": 0.3, "response_timeout_s": 0.3}
    )
    settings = settings.model_copy(update={"redis": redis})
    async with serve(settings) as addresses, AsyncClient(addresses.public) as client:
        await client.boards.create(Board(board_id="arena"))
        assert (await client.submit_score("arena", 1, 1)).indexed
        for address in redis_faults.addresses:
            redis_faults.node(address).freeze()

        result = await client.submit_score("arena", 1, 7, timeout_s=10)
        for address in redis_faults.addresses:
            redis_faults.node(address).thaw()

        assert (result.outcome, result.indexed) == (Outcome.APPLIED, False)
        async with asyncio.timeout(15):
            while True:
                try:
                    if (await client.get_entry("arena", 1)).entry.score == 7:
                        break
                except StandingsError:
                    continue


def _impatient(settings: Settings) -> Settings:
    postgres = settings.postgres.model_copy(update={"write_timeout_ms": 500})
    return settings.model_copy(update={"postgres": postgres})
