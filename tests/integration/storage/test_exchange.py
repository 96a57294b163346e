"""What is said to PostgreSQL in one message, and when its answers are read."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors as pg

from storage.exchange import Steps, Talk, run, transaction
from tests.integration.storage.conftest import Store


class _Teller:
    """Makes a result, and remembers whether the transaction was open then."""

    def __init__(self) -> None:
        self.open: list[bool] = []

    def __call__(self, talk: Talk, given: str) -> str:
        """Makes it of what the work gave."""
        self.open.append(not talk.idle)
        return f"told of {given}"


async def test_a_result_is_made_before_the_server_says_that_it_has_committed(store: Store) -> None:
    """And is given when it has."""
    teller = _Teller()
    async with await psycopg.AsyncConnection.connect(store.dsn, autocommit=True) as connection:
        await connection.execute("create temp table kept (id int primary key)")

        result = await run(connection, lambda talk: _inserting(talk, teller, b"(1)"))

        cursor = await connection.execute("select id from kept")
        assert await cursor.fetchall() == [(1,)]
    assert (result, teller.open) == ("told of rows", [True])


async def test_a_commit_that_fails_gives_no_result(store: Store) -> None:
    """However far it was made; the connection is as good as before."""
    teller = _Teller()
    async with await psycopg.AsyncConnection.connect(store.dsn, autocommit=True) as connection:
        await connection.execute(
            "create temp table kept (id int, unique (id) deferrable initially deferred)"
        )

        with pytest.raises(pg.UniqueViolation):
            await run(connection, lambda talk: _inserting(talk, teller, b"(1), (1)"))

        cursor = await connection.execute("select id from kept")
        assert await cursor.fetchall() == []
    assert teller.open == [True]


def _inserting(talk: Talk, teller: _Teller, rows: bytes) -> Steps[str]:
    def steps() -> Steps[str]:
        talk.command(b"begin")
        talk.command(b"insert into kept values " + rows)
        talk.sync()
        yield from talk.done()
        yield from talk.done()
        yield from talk.synced()
        return "rows"

    return transaction(talk, steps(), lambda given: teller(talk, given))
