"""Reads by rank go through the indexes, however large the tables were when they were planned."""

from __future__ import annotations

import psycopg
import pytest

from core.ports import KeyRange
from core.types import ALL_SHARDS
from storage.pool import execute, open_pool
from storage.rank_season import span
from storage.rank_statements import AROUND, COUNT, USERS, WINDOW
from storage.sessions import PoolUse
from storage.statement import Statement
from tests.fakes.making import board_spec
from tests.integration.storage.conftest import Store

pytestmark = pytest.mark.every_way

FILL = """
insert into entries (
  shard, season_no, user_id, score, subscore, arrival, revision, state, submission_count,
  achieve_time, update_time, outcome, batch_place, rank_key)
select n %% 16, %s, n, n * 7919 %% 100000, 0, n, 1, 0, 1, now(), now(), 1, 0,
       rank_key_of(n * 7919 %% 100000, 0, n, -1, -1)
from generate_series(1, 50000) n
"""


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("statement", [COUNT, USERS, WINDOW, AROUND])
async def test_no_read_by_rank_reads_a_whole_table(
    store: Store, statement: Statement, *, analyzed: bool
) -> None:
    """Before PostgreSQL knows how large the tables have become, and after."""
    board = await store.create(board_spec())
    parameters = {
        "season_no": board.season.number,
        "shard": list(ALL_SHARDS),
        "user_id": [77],
        "stop_key": [b"\x80" * 24] * 16,
        "stop_user": [1] * 16,
        "near_key": [b"\x80" * 24] * 16,
        "near_user": [1] * 16,
        "head": 10,
        **span(b"\x80", 10, 10, KeyRange()),
    }
    explained = Statement(b"explain (analyze, costs off) " + statement.text, statement.names)
    async with open_pool(store.settings, store.pool_dsn, PoolUse.READ) as pool:
        await pool.wait(10)
        async with pool.connection() as connection:
            await execute(connection, statement, parameters)
            await store.execute(FILL, board.season.number)
            if analyzed:
                await store.execute("analyze entries")
            cursor = psycopg.AsyncRawCursor(connection)
            await cursor.execute(explained.text, explained.arguments(parameters))
            plan = "\n".join(row[0] for row in await cursor.fetchall())

    assert "Seq Scan on entries" not in plan
    assert plan.count("Rows Removed by Filter") == 0
