"""Statements that go to the server together, by libpq's pipeline mode.

psycopg makes a round trip of each statement, and of BEGIN and COMMIT, and each time it tells the
event loop anew to watch the socket and wakes a task. That is most of what a small transaction costs
this process: here it is one message, and one wake-up for all that comes of it.

What is exchanged is written as a generator that yields wherever it has to wait for the server:

    def steps(talk):
        talk.query(statement, parameters)
        talk.sync()
        rows = yield from talk.rows()
        return rows

    await run(connection, lambda talk: transaction(talk, steps(talk), told_of))
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any, Final, Generic, TypeAlias, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from storage.statement import Statement

Row: TypeAlias = tuple[Any, ...]
GivenT = TypeVar("GivenT")
ResultT = TypeVar("ResultT")
Steps: TypeAlias = Generator[None, None, ResultT]
"""Goes on whenever something has come from the server."""

_CANCEL_S: Final = 1.0
_FINE: Final = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)
_PREPARED: Final = "_standings_prepared"
_cancelling: Final[set[asyncio.Future[None]]] = set()
"""The loop itself holds tasks weakly."""


class Talk:
    """What is said to one connection, and read from it in the same order."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._pgconn: PGconn = connection.pgconn
        self._adapt = Transformer(connection)
        self._prepared: set[bytes] = connection.__dict__.setdefault(_PREPARED, set())
        self._preparing: deque[bytes | None] = deque()
        """For each query on its way: what is prepared right before it, if anything."""
        self._syncs = 0

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return self._pgconn.transaction_status == TransactionStatus.IDLE

    def command(self, text: bytes) -> None:
        """Says something that has no parameters and gives no rows."""
        self._pgconn.send_query_params(text, None)

    def query(self, statement: Statement, parameters: Mapping[str, Any]) -> None:
        """Runs a statement, which stays prepared. All its parameters must be cast in its text:
        they go as text of no type.
        """
        new = statement.name not in self._prepared
        if new:
            self._pgconn.send_prepare(statement.name, statement.text)
        self._preparing.append(statement.name if new else None)
        arguments = [self._text_of(value) for value in statement.arguments(parameters)]
        self._pgconn.send_query_prepared(statement.name, arguments, result_format=Format.BINARY)

    def hurry(self) -> None:
        """Has the server send the answers so far before it goes on."""
        self._pgconn.send_flush_request()

    def sync(self) -> None:
        """Ends what is sent together. After an error the server skips what comes before it."""
        self._pgconn.pipeline_sync()
        self._syncs += 1

    def done(self) -> Steps[None]:
        """Reads the end of a command. Raises psycopg.Error."""
        yield from self._answer()

    def rows(self) -> Steps[list[Row]]:
        """Reads what a query gave. Raises psycopg.Error."""
        return self.loaded((yield from self.raw_rows()))

    def raw_rows(self) -> Steps[PGresult]:
        """The same, to be loaded later: text is UTF-8 and all else as the server sends it. Raises
        psycopg.Error.
        """
        new = self._preparing.popleft()
        if new is not None:
            yield from self._answer()
            self._prepared.add(new)
        return (yield from self._answer())

    def loaded(self, raw: PGresult) -> list[Row]:
        """The rows as values of Python."""
        self._adapt.set_pgresult(raw, format=Format.BINARY)
        return self._adapt.load_rows(0, raw.ntuples, tuple)

    def synced(self) -> Steps[None]:
        """Reads on to the end of what was sent together."""
        while self._syncs:
            result = yield from self._next()
            if result is not None and result.status == ExecStatus.PIPELINE_SYNC:
                self._syncs -= 1
        self._preparing.clear()

    def _answer(self) -> Steps[PGresult]:
        result = yield from self._next()
        if result is None:
            raise psycopg.InternalError("the server's answers are out of step")
        if result.status not in _FINE:
            raise pg.error_from_result(result)
        yield from self._next()
        return result

    def _next(self) -> Steps[PGresult | None]:
        while self._pgconn.is_busy():
            yield
        result = self._pgconn.get_result()
        if result is None and self._pgconn.status == ConnStatus.BAD:
            # There is nothing more to come, and no end of it either.
            raise psycopg.OperationalError("the connection was lost")
        return result

    def _text_of(self, value: object) -> bytes | None:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, bool):
            return b"t" if value else b"f"
        (dumped,) = self._adapt.dump_sequence([value], [PyFormat.TEXT])
        return None if dumped is None else bytes(dumped)


def transaction(
    talk: Talk, work: Steps[GivenT], told: Callable[[GivenT], ResultT]
) -> Steps[ResultT]:
    """The work, which begins what it does with a command "begin"; committed or, where it raises,
    taken back. `told` makes the result of what it gave, while the server commits.
    """
    try:
        given = yield from work
        talk.command(b"commit")
        talk.sync()
        result = told(given)
        yield from talk.done()
        yield from talk.synced()
    except Exception:
        yield from _take_back(talk)
        raise
    return result


def _take_back(talk: Talk) -> Steps[None]:
    # Where the connection is lost, so is the transaction; what raised tells of it.
    with suppress(psycopg.Error):
        yield from talk.synced()
        if not talk.idle:
            talk.command(b"rollback")
            talk.sync()
            yield from talk.synced()


async def run(
    connection: psycopg.AsyncConnection[Any], steps_of: Callable[[Talk], Steps[ResultT]]
) -> ResultT:
    """What the steps return. If it is cancelled, they are over, and the connection is closed."""
    exchange = _Exchange(connection.pgconn, steps_of(Talk(connection)))
    try:
        return await exchange.done
    except asyncio.CancelledError:
        exchange.end()
        try:
            await _begin_to_cancel(connection)
        finally:
            connection.pgconn.finish()
        raise


async def _begin_to_cancel(connection: psycopg.AsyncConnection[Any]) -> None:
    """Has the server let go of its locks at once. The end of it is not waited for: a frozen server
    does not come to it.
    """

    async def cancel() -> None:
        with suppress(psycopg.Error):
            await connection.cancel_safe(timeout=_CANCEL_S)

    cancelling = asyncio.ensure_future(cancel())
    _cancelling.add(cancelling)
    cancelling.add_done_callback(_cancelling.discard)
    # From its first step on it needs the connection no more.
    await asyncio.sleep(0)


class _Exchange(Generic[ResultT]):
    """Steps on their way, driven by the socket itself rather than by a task that it wakes."""

    def __init__(self, pgconn: PGconn, steps: Steps[ResultT]) -> None:
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[ResultT] = self._loop.create_future()
        self._pgconn = pgconn
        self._steps = steps
        self._socket = pgconn.socket
        self._writing = False
        pgconn.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._readable)
        self._go_on()

    def end(self) -> None:
        """Goes on no more."""
        self._loop.remove_reader(self._socket)
        if self._writing:
            self._loop.remove_writer(self._socket)
        self._steps.close()

    def _readable(self) -> None:
        try:
            self._pgconn.consume_input()
        except psycopg.Error as error:
            self._fail(error)
        else:
            self._go_on()

    def _go_on(self) -> None:
        try:
            next(self._steps)
            self._send()
        except StopIteration as end:
            self._loop.remove_reader(self._socket)
            self._pgconn.exit_pipeline_mode()
            if not self.done.done():
                self.done.set_result(end.value)
        except Exception as error:  # noqa: BLE001 - for whoever waits
            self._fail(error)

    def _send(self) -> None:
        """Sends what is to be sent; where the server is behind in reading, the rest later."""
        unsent = self._pgconn.flush() != 0
        if unsent and not self._writing:
            self._loop.add_writer(self._socket, self._writable)
        elif self._writing and not unsent:
            self._loop.remove_writer(self._socket)
        self._writing = unsent

    def _writable(self) -> None:
        try:
            self._send()
        except psycopg.Error as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.end()
        if self._pgconn.status == ConnStatus.OK:
            with suppress(psycopg.Error):
                self._pgconn.exit_pipeline_mode()
        # It may have been cancelled in this very turn of the loop.
        if not self.done.done():
            self.done.set_exception(error)
