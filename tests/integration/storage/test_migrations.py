"""Migrations: once each, one at a time, and never a changed file."""

import asyncio

import psycopg
import pytest

from storage import migrations
from storage.migrations import (
    RANK_INDEXES,
    Migration,
    MigrationChanged,
    known_migrations,
    migrate,
    pending_migrations,
)
from storage.settings import PostgresSettings

pytestmark = pytest.mark.both_postgres


async def test_many_deploys_at_once_apply_each_file_once(empty_database: str) -> None:
    """The lock makes all but one wait, and then there is nothing left to do."""
    applied = await asyncio.gather(*(migrate(empty_database) for _ in range(4)))

    names = [*(migration.name for migration in known_migrations()), RANK_INDEXES]
    assert sorted(map(len, applied)) == [0, 0, 0, len(names)]


async def test_a_changed_file_stops_the_migration(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """History is not rewritten."""
    await migrate(empty_database)
    changed = [Migration(m.number, m.name, m.text + b"-- more") for m in known_migrations()]
    monkeypatch.setattr(migrations, "known_migrations", lambda: changed)

    with pytest.raises(MigrationChanged):
        await migrate(empty_database)


async def test_a_failing_file_leaves_nothing_behind(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that fails half-way is rolled back and not noted."""
    await migrate(empty_database)
    broken = Migration(9999, "9999_broken.sql", b"create table half (x int); select 1/0;")
    monkeypatch.setattr(migrations, "known_migrations", lambda: [broken])

    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate(empty_database)

    async with await psycopg.AsyncConnection.connect(empty_database) as connection:
        cursor = await connection.execute("select to_regclass('half')")
        assert await cursor.fetchone() == (None,)


async def test_partitions_reach_over_the_whole_window(empty_database: str) -> None:
    """Right after the migration, every id that would be taken has its partition."""
    await migrate(empty_database)

    days = PostgresSettings().submission_window.days
    async with await psycopg.AsyncConnection.connect(empty_database) as connection:
        cursor = await connection.execute(
            "select count(*) from pg_inherits where inhparent = 'score_events'::regclass"
        )
        assert await cursor.fetchone() == (days + 1 + 1 + 3,)


async def test_a_broken_rank_index_is_made_anew(empty_database: str) -> None:
    """One that was left half-made is missed by the check at the start, and replaced."""
    await migrate(empty_database)
    async with await psycopg.AsyncConnection.connect(empty_database, autocommit=True) as connection:
        await connection.execute(
            "update pg_index set indisvalid = false "
            "where indexrelid = 'entries_3_by_rank'::regclass"
        )
        await connection.execute("drop index entries_5_unranked")

        assert await pending_migrations(connection) == [RANK_INDEXES]
        assert await migrate(empty_database) == [RANK_INDEXES]
        assert await pending_migrations(connection) == []
    assert await migrate(empty_database) == []


async def test_indexes_of_half_a_migration_wait_for_the_file(empty_database: str) -> None:
    """An empty database lacks the files; nothing is said of indexes yet."""
    async with await psycopg.AsyncConnection.connect(empty_database) as connection:
        names = [migration.name for migration in known_migrations()]
        assert await pending_migrations(connection) == names
