"""An index of another ledger: of a database that was restored, or of a standby that was promoted.
PostgreSQL wins, whatever the index has.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from bootstrap.embedded.binaries import find_postgres
from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.embedded.waiting import until
from core.errors import IndexUnbuilt, ReadBehind
from core.flushes import FlushResult
from core.ports import Freshness
from core.types import Board
from storage.migrations import migrate
from tests.fakes.making import board_spec, submission
from tests.fixtures.keeping import Kept, keeping_of
from tests.fixtures.redis import empty

pytestmark = [pytest.mark.both_engines, pytest.mark.timeout(120)]

USERS = range(1, 101)


@pytest.fixture
async def own_postgres(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A database cluster that only this test uses."""
    server = EmbeddedPostgres(tmp_path / "own", find_postgres(), fsync=False)
    await server.start()
    await migrate(server.dsn)
    yield server
    await server.stop()


async def test_an_index_of_a_ledger_that_was_replaced_is_built_anew(
    kept: Kept, own_postgres: EmbeddedPostgres
) -> None:
    """The new one counts transactions from the start, and has lower revisions of the same users:
    nothing of the old one stays.
    """
    board = await kept.boards.create(board_spec())
    await kept.build.season(board.season.number)
    for score in range(1, 4):
        await kept.apply(await _write(kept, board, score))
    await kept.catch_up()
    async with keeping_of(own_postgres.dsn, kept.cluster) as replaced:
        board = await replaced.boards.create(board_spec())
        await _write(replaced, board, 2)
        assert (await replaced.history.point()).horizon < (await kept.history.point()).horizon

        await _require_equal_after_healing(replaced, board)


async def test_an_index_ahead_of_a_promoted_standby_is_built_anew(
    redis_cluster: EmbeddedRedisCluster, own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """What the standby had not received is in the index, under ids that it gives again."""
    await empty(redis_cluster)
    async with keeping_of(own_postgres.dsn, redis_cluster) as kept:
        board = await kept.boards.create(board_spec())
        await kept.build.season(board.season.number)
        await kept.apply(await _write(kept, board, 1))
        before = await kept.history.point()
    await own_postgres.stop()
    shutil.copytree(tmp_path / "own", tmp_path / "standby")
    await own_postgres.restart()
    async with keeping_of(own_postgres.dsn, redis_cluster) as kept:
        assert (await kept.history.point()).ledger == before.ledger
        await kept.apply(await _write(kept, board, 5))
        await kept.catch_up()
    await own_postgres.kill()

    promoted = await _promoted(tmp_path / "standby")
    try:
        async with keeping_of(promoted.dsn, redis_cluster) as kept:
            await _write(kept, board, 3)
            after = await kept.history.point()
            assert after.ledger != before.ledger
            await _require_equal_after_healing(kept, board)
    finally:
        await promoted.stop()


async def test_a_ledger_that_went_back_under_its_own_name_is_noticed(
    redis_cluster: EmbeddedRedisCluster, own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Files put back as they were have no new timeline; the mark is ahead of them."""
    await empty(redis_cluster)
    await own_postgres.stop()
    shutil.copytree(tmp_path / "own", tmp_path / "copy")
    await own_postgres.restart()
    async with keeping_of(own_postgres.dsn, redis_cluster) as kept:
        board = await kept.boards.create(board_spec())
        await kept.build.season(board.season.number)
        await kept.apply(await _write(kept, board, 1))
        await kept.catch_up()
    await own_postgres.stop()
    copy = EmbeddedPostgres(tmp_path / "copy", find_postgres(), fsync=False)
    await copy.start()
    try:
        async with keeping_of(copy.dsn, redis_cluster) as kept:
            board = await kept.boards.create(board_spec())
            await _require_equal_after_healing(kept, board)
    finally:
        await copy.stop()


async def test_a_token_of_another_ledger_is_not_satisfied(kept: Kept) -> None:
    """Its ids say nothing of this one: the read is behind, however high the mark is."""
    board = await kept.boards.create(board_spec())
    await kept.build.season(board.season.number)
    await kept.apply(await _write(kept, board, 1))
    name = (await kept.history.point()).ledger[:4]

    async def read(ledger: bytes) -> None:
        fresh = Freshness({1: (3,)}, ledger)
        await kept.index.users(board.season.number, [1], cutoff_bytes=32, fresh=fresh)

    await read(b"")
    await read(name)
    with pytest.raises(ReadBehind):
        await read(bytes(byte ^ 1 for byte in name))


@pytest.mark.both_postgres
async def test_a_ledger_has_one_name_that_anybody_may_ask_for(kept: Kept) -> None:
    """Each database has its own, and a role without any right is told it too."""
    first = await kept.history.point()
    await kept.execute("drop role if exists nobody_much")
    await kept.execute("create role nobody_much login password 'word'")
    plain = psycopg.conninfo.make_conninfo(kept.dsn, user="nobody_much", password="word")
    async with keeping_of(plain, kept.cluster) as other:
        second = await other.history.point()

    assert len(first.ledger) == 8
    assert second.ledger == first.ledger
    assert second.horizon >= first.horizon


async def _write(kept: Kept, board: Board, score: int) -> FlushResult:
    result = await kept.record(board, [submission(user, score) for user in USERS])
    assert result.changes
    return result


async def _require_equal_after_healing(kept: Kept, board: Board) -> None:
    """The first step gives the index up, and then it is built."""
    await kept.heal()
    with pytest.raises(IndexUnbuilt):
        await kept.shown(board)
    await kept.build_missing()
    await kept.catch_up()
    assert await kept.shown(board) == await kept.truth(board)


async def _promoted(directory: Path) -> EmbeddedPostgres:
    """A server over files that lag behind: it has ended its recovery, on a new timeline."""
    data = directory / "postgres"
    (data / "recovery.signal").touch()
    with (data / "postgresql.auto.conf").open("a") as settings:
        settings.write("restore_command = 'false'\n")
    server = EmbeddedPostgres(directory, find_postgres(), fsync=False)
    await server.start()
    # It listens before that, and takes no writes yet.
    async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:

        async def promoted() -> bool:
            cursor = await connection.execute("select pg_is_in_recovery()")
            return await cursor.fetchone() == (False,)

        assert await until(promoted, timeout_s=30)
    return server
