"""A server on embedded stores with one big board on it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import psycopg

from bootstrap.container import postgres_dsn
from bootstrap.settings import Settings
from bootstrap.stores import open_stores
from cli.serving import serving
from standings_client import AsyncClient, Board, StandingsError

BOARD_ID: Final = "big"
_CALL_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.2
_BUILD_TIMEOUT_S: Final = 600.0
_FILL: Final = """
insert into entries (shard, season_no, user_id, score, subscore, arrival, revision,
                     submission_count, achieve_time, update_time, state, outcome, batch_place)
select u %% 16, s.season_no, u, abs(hashint8(u)::bigint) %% 100000, 0, u, 1, 1,
       now(), now(), 0, 1, 1
from generate_series(1::bigint, %(count)s) u cross join seasons s
"""
"""Scores in no order, each shared by some of a million users."""


@asynccontextmanager
async def big_board(count: int) -> AsyncIterator[AsyncClient]:
    """A client of a server in this process, without caches; users 1 to `count` have entries."""
    with tempfile.TemporaryDirectory(prefix="standings-bench-") as folder:
        settings = Settings.load(
            {
                "STANDINGS_EMBEDDED_DIRECTORY": folder,
                "STANDINGS_READS_FIRST_PAGE_MS": "0",
                "STANDINGS_READS_HOT_ENTRIES_MAX": "0",
                "STANDINGS_REDIS_OPERATION_TIMEOUT_S": "5",
                "STANDINGS_REDIS_RESPONSE_TIMEOUT_S": "5",
                "STANDINGS_SERVER_ADDRESS": "127.0.0.1:0",
                "STANDINGS_SERVER_ADMIN_ADDRESS": "127.0.0.1:0",
                "STANDINGS_SERVER_DRAIN_SETTLE_S": "0",
            }
        )
        async with _client(settings) as (client, ready):
            await client.boards.create(Board(board_id=BOARD_ID))
            await _fill(ready, count)
        # PostgreSQL keeps its data, Redis starts empty: the index is built from what is there.
        async with _client(settings) as (client, _):
            async with asyncio.timeout(_BUILD_TIMEOUT_S):
                await _built(client, count)
            yield client


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[tuple[AsyncClient, Settings]]:
    async with (
        open_stores(settings) as ready,
        serving(ready) as addresses,
        AsyncClient(addresses.public, timeout_s=_CALL_TIMEOUT_S) as client,
    ):
        yield client, ready


async def _fill(settings: Settings, count: int) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn(settings)) as connection:
        await connection.execute(_FILL, {"count": count})


async def _built(client: AsyncClient, count: int) -> None:
    while True:
        try:
            page = await client.list_entries(BOARD_ID, page_size=1)
        except StandingsError:
            pass
        else:
            if page.meta.entry_count == count:
                return
        await asyncio.sleep(_POLL_S)
