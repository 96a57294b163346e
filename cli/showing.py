"""What `standings demo` does, in the order in which a reader sees it."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import typer
from rich.console import Console

from bootstrap.embedded.errors import EmbeddedError
from bootstrap.errors import NotConfigured
from bootstrap.log import configure_logging
from bootstrap.settings import Settings, SettingsInvalid
from bootstrap.stores import open_stores
from cli.arena import BOARD_ID, GameDay, play
from cli.board_view import print_board, print_next_steps
from cli.serving import Addresses, serving
from core.errors import StandingsError
from standings_client import AsyncClient

CALL_TIMEOUT_S: Final = 10.0
"""A demo on a busy laptop is patient."""


async def show(day: GameDay, *, once: bool) -> None:
    """The whole demo; returns when it was asked to stop, or after the board with `once`."""
    story = asyncio.ensure_future(_tell(day, once=once))
    _on_signals(story.cancel)
    try:
        await story
    except asyncio.CancelledError:
        typer.echo("interrupted; everything is stopped", err=True)
        raise typer.Exit(1) from None
    except (EmbeddedError, NotConfigured, SettingsInvalid, StandingsError, RuntimeError) as error:
        typer.echo(f"the demo cannot go on: {error}", err=True)
        raise typer.Exit(1) from None


def _on_signals(action: Callable[[], object]) -> None:
    """What Ctrl-C and a polite kill do from now on."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, action)


async def _tell(day: GameDay, *, once: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    async with _server(console) as addresses:
        console.print(f"serving on {addresses.public} after {time.monotonic() - started:.1f} s")
        async with AsyncClient(addresses.public, timeout_s=CALL_TIMEOUT_S) as client:
            await play(client, day, console)
            await print_board(client, day, console)
        print_next_steps(console, addresses, BOARD_ID)
        if not once:
            stop = asyncio.Event()
            _on_signals(stop.set)
            console.print("\nServing until Ctrl-C.")
            await stop.wait()
            console.print("stopping")


@asynccontextmanager
async def _server(console: Console) -> AsyncIterator[Addresses]:
    settings = _demo_settings(Settings.load())
    configure_logging(settings.log)
    if settings.postgres.dsn is None:
        console.print(
            "starting PostgreSQL and 3 + 3 Redis nodes, with their data in"
            f" {settings.embedded.directory.absolute()}"
        )
    async with open_stores(settings) as ready, serving(_with_free_ports(ready)) as addresses:
        yield addresses


def _demo_settings(settings: Settings) -> Settings:
    """The settings, made friendly where the user left them alone: reflection for the tools,
    quick to stop, quiet.
    """
    given = settings.server.model_fields_set
    friendly = {"reflection": True, "drain_settle_s": 0.0, "drain_grace_s": 1.0}
    changes = {name: value for name, value in friendly.items() if name not in given}
    server = settings.server.model_copy(update=changes)
    log = settings.log
    if not log.model_fields_set:
        log = log.model_copy(update={"level": "WARNING", "json_lines": False})
    return settings.model_copy(update={"server": server, "log": log})


def _with_free_ports(settings: Settings) -> Settings:
    """Free ports instead of default ones that are taken; what the user set stays."""
    defaults = {"address", "admin_address"} - settings.server.model_fields_set
    changes = {}
    for name in defaults:
        address: str = getattr(settings.server, name)
        if _is_taken(address):
            changes[name] = f"{address.rpartition(':')[0]}:0"
    server = settings.server.model_copy(update=changes)
    return settings.model_copy(update={"server": server})


def _is_taken(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, int(port)))
        except OSError:
            return True
    return False
