"""The floor of the Envoy transport: bench/echo.py as an ASGI application."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.echo import read_answers, routes_of
from bench.transports import ANSWERS_VARIABLE
from bootstrap.server_settings import ServerSettings
from bootstrap.settings import taken
from server import event_loop
from server.transport.asgi import GrpcApp, Send
from server.transport.presence import Receive

_echo: Final = GrpcApp(routes_of(read_answers(Path(taken(ANSWERS_VARIABLE)))), ServerSettings())
event_loop.spare_collector()


async def app(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """A call, or the lifespan, in which nothing is to be done."""
    if scope["type"] == "http":
        await _echo(scope, receive, send)
        return
    for moment in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{moment}.complete"})
