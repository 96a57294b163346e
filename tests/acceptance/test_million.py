"""A board of a million entries, built from PostgreSQL, with exact ranks."""

from __future__ import annotations

import asyncio
import bisect
import logging
import random
import time

import psycopg
import pytest

from standings_client import AsyncClient, Board, RankMode, StandingsError
from tests.fixtures.server import RunningServer

pytestmark = pytest.mark.timeout(900)

ENTRIES = 1_000_000
_FILL = """
insert into entries (shard, season_no, user_id, score, subscore, arrival, revision,
                     submission_count, achieve_time, update_time, state, outcome, batch_place)
select u %% 16, s.season_no, u, (u * 7919) %% 50000, (u * 31) %% 3, 2000000 - u, 1, 1,
       now(), now(), 0, 1, 1
from generate_series(1::bigint, %(count)s) u cross join seasons s
"""
_log = logging.getLogger(__name__)


def _key(user: int) -> tuple[int, int, int]:
    """The place of a user as the statement above makes it, smaller is better."""
    return (-((user * 7919) % 50_000), -((user * 31) % 3), 2_000_000 - user)


async def _built(client: AsyncClient) -> None:
    """Returns when the index holds the season again."""
    while True:
        try:
            answer = await client.list_entries("arena", page_size=1)
        except StandingsError:
            continue
        if answer.meta.entry_count == ENTRIES:
            return


async def test_every_rank_among_a_million_is_exact(standings: RunningServer) -> None:
    """Ordinal and competition ranks of 1,000 random users are those of a sorted list."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    dsn = standings.settings.postgres.dsn
    assert dsn is not None
    async with await psycopg.AsyncConnection.connect(dsn.get_secret_value()) as connection:
        await connection.execute(_FILL, {"count": ENTRIES})
    await standings.forget_index()
    started = time.monotonic()
    async with asyncio.timeout(300):
        await _built(client)
    _log.info("built in %.1f s", time.monotonic() - started)
    keys = sorted(_key(user) for user in range(1, ENTRIES + 1))
    rng = random.Random(1)

    for user in rng.sample(range(1, ENTRIES + 1), 1_000):
        answer = await client.get_entry("arena", user)
        shared = await client.get_entry("arena", user, rank_mode=RankMode.COMPETITION)

        assert answer.entry.rank == bisect.bisect_left(keys, _key(user)) + 1
        assert shared.entry.rank == bisect.bisect_left(keys, _key(user)[:2]) + 1
        assert answer.meta.entry_count == ENTRIES

    users = rng.sample(range(1, ENTRIES + 1), 1_000)
    batch = await client.batch_get_entries("arena", users)
    assert [(entry.user_id, entry.rank) for entry in batch.entries] == [
        (user, bisect.bisect_left(keys, _key(user)) + 1) for user in sorted(users, key=_key)
    ]
