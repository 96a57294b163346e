"""Partitions and deleted boards."""

from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from storage.retention import PostgresRetention
from storage.settings import PostgresSettings
from tests.fakes.making import board_spec, submission
from tests.integration.storage.conftest import Store

pytestmark = pytest.mark.every_way

_PARTITIONS = (
    "select relname from pg_inherits join pg_class on oid = inhrelid "
    "where inhparent = 'score_events'::regclass order by 1"
)


async def test_a_missing_partition_is_made_beside_an_open_insert(store: Store) -> None:
    """The job waits for no transaction, and none waits for it."""
    board = await store.create(board_spec())
    partitions = await store.execute(_PARTITIONS)
    newest = str(partitions[-1][0])
    async with await psycopg.AsyncConnection.connect(store.dsn, autocommit=True) as connection:
        await connection.execute(sql.SQL("drop table {}").format(sql.Identifier(newest)))
    async with await psycopg.AsyncConnection.connect(store.dsn) as holder:
        await holder.execute("lock table score_events in row exclusive mode")

        await store.retention.make_partitions()
        await store.record_one(board, submission(1, 1))

    assert await store.execute(_PARTITIONS) == partitions


async def test_partitions_behind_the_window_are_dropped(
    store: Store, postgres_settings: PostgresSettings
) -> None:
    """A shorter window lets go of the days it no longer needs, and keeps one day more."""
    shorter = postgres_settings.model_copy(update={"submission_window": timedelta(days=2)})
    before = await store.execute(_PARTITIONS)

    await PostgresRetention(shorter, store.pool).drop_partitions()

    assert await store.execute(_PARTITIONS) == before[-(2 + 1 + 1 + 1 + 3) :]


async def test_a_deleted_board_is_purged_when_no_write_can_add_to_it(store: Store) -> None:
    """Its season is listed after a while, emptied shard by shard, and then forgotten."""
    board = await store.create(board_spec())
    await store.record(board, *(submission(user, 1) for user in range(1, 40)))
    await store.boards.delete("board", etag="")
    assert await store.retention.deleted_seasons() == []

    await store.execute("update boards set delete_time = now() - interval '1 minute'")
    (season,) = await store.retention.deleted_seasons()
    for shard in range(16):
        assert await store.retention.purge(season, shard)
    await store.retention.mark_purged(season)

    assert await store.execute("select 1 from entries") == []
    assert await store.retention.deleted_seasons() == []
