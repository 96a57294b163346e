"""What the operators' commands do, against a server that runs somewhere."""

from __future__ import annotations

import asyncio
import getpass
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

import typer
from rich.console import Console, RenderableType

from bootstrap.settings import Settings
from cli.failures import told
from cli.refreshing import refresh
from cli.tables import breakers_table, operation_table, shards_table, workers_table
from core.clock import SystemClock
from server.admin_client import (
    AdminCallFailed,
    AdminClient,
    BreakerRow,
    OperationRow,
    ShardRow,
    connect,
)

_SHARDS_S: Final = 1.0
_POLL_S: Final = 0.5
_RUNNING: Final = "RUNNING"
_TTL: Final = re.compile(r"(\d{1,6})([smh])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600}


@contextmanager
def told_of_server() -> Iterator[None]:
    """As told; a refusal or silence of the server, too, is a sentence and exit code 1."""
    with told():
        try:
            yield
        except AdminCallFailed as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from None


async def show_breakers(address: str | None, *, once: bool, workers: bool) -> None:
    """The table of breakers, or of what each of the workers makes of them; once, or at every
    change. Raises AdminCallFailed.
    """
    table = workers_table if workers else breakers_table

    def draw(rows: Sequence[BreakerRow]) -> RenderableType:
        return table(rows, _now())

    async with connect(address_of(address), Settings.load().client) as client:
        if _is_once(once=once):
            Console().print(draw(await client.breakers()))
        else:
            await refresh(client.watch_breakers, draw)


async def show_shards(address: str | None, *, once: bool) -> None:
    """The table of shards; once, or every second. Raises AdminCallFailed."""
    async with connect(address_of(address), Settings.load().client) as client:
        if _is_once(once=once):
            Console().print(shards_table(await client.shards()))
        else:
            await refresh(lambda: _every_second(client), shards_table)


async def run_operation(
    address: str | None, begin: Callable[[AdminClient], Awaitable[OperationRow]]
) -> OperationRow:
    """Begins an operation, tells how far it is until it has ended, and then what it found. Whoever
    is interrupted meanwhile stops it. Raises AdminCallFailed.
    """
    async with connect(address_of(address), Settings.load().client) as client:
        operation = await begin(client)
        try:
            with Console().status("") as status:
                while operation.state == _RUNNING:
                    status.update(_progress(operation))
                    await asyncio.sleep(_POLL_S)
                    operation = await client.operation(operation.operation_id)
        except asyncio.CancelledError:
            await client.cancel(operation.operation_id)
            raise
    if operation.shards:
        Console().print(operation_table(operation.shards))
    typer.echo(f"{operation.state.lower()}: {_progress(operation)}")
    if operation.error:
        typer.echo(operation.error, err=True)
    return operation


async def set_breaker(
    address: str | None, name: str, mode: str, *, reason: str, actor: str, ttl_s: int | None
) -> Sequence[int]:
    """Sets a mode and prints what became of it; returns the workers that do not say that they
    act on it. Raises AdminCallFailed.
    """
    async with connect(address_of(address), Settings.load().client) as client:
        done = await client.set_breaker(name, mode, reason=reason, actor=actor, ttl_s=ttl_s)
    Console().print(breakers_table(done.breakers, _now()))
    typer.echo(f"in force in workers {_slots(done.acknowledged)}")
    if done.laggards:
        typer.echo(f"not confirmed by workers {_slots(done.laggards)}", err=True)
    return done.laggards


def seconds_of(text: str) -> int:
    """A span such as 90s, 15m or 2h. Raises typer.BadParameter."""
    match = _TTL.fullmatch(text)
    if match is None:
        raise typer.BadParameter("must be a number and s, m or h, such as 15m", param_hint="--ttl")
    return int(match[1]) * _UNIT_S[match[2]]


def shards_of(text: str) -> Sequence[int]:
    """Numbers with commas between; none of them: all. Raises typer.BadParameter."""
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise typer.BadParameter(
            "must be numbers with commas between", param_hint="--shards"
        ) from None


def user_of_shell() -> str:
    """The name of who runs this; empty where the system has none, as in some containers."""
    with suppress(KeyError, OSError):
        return getpass.getuser()
    return ""


def address_of(given: str | None) -> str:
    """The admin listener that is meant."""
    return given or Settings.load().server.admin_address


def _is_once(*, once: bool) -> bool:
    """A file or a pipe gets one table, too."""
    return once or not Console().is_terminal


def _now() -> datetime:
    return datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC)


def _progress(operation: OperationRow) -> str:
    return (
        f"{operation.done_count:,} of {operation.total_count:,} shards of seasons, "
        f"{operation.entry_count:,} entries"
    )


async def _every_second(client: AdminClient) -> AsyncGenerator[Sequence[ShardRow], None]:
    while True:
        yield await client.shards()
        await asyncio.sleep(_SHARDS_S)


def _slots(workers: Sequence[int]) -> str:
    return ", ".join(map(str, workers)) or "-"
