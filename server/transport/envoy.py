"""Bytes over gRPC by an Envoy that runs this process's Python inside it, as an ASGI server.

Envoy was there first: it loads the application, and listens when that says that it has started.
server/transport/envoy_program.py has its configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

from bootstrap.server_settings import ServerSettings
from server.identity.tls_files import TlsFiles, TlsMaterial
from server.rpc.chain import Route
from server.transport.asgi import GrpcApp, Send
from server.transport.envoy_program import DRAIN_S
from server.transport.envoy_tls import write_secrets
from server.transport.presence import Receive

_LISTEN_S: Final = 10.0
_POLL_S: Final = 0.01
_ANSWER_S: Final = 2.0


class Door:
    """Where Envoy's calls come in; opened by the listener that serves them."""

    def __init__(self, admin: str) -> None:
        self.opened = asyncio.Event()
        self._admin = EnvoyAdmin(admin)
        self._app: GrpcApp | None = None

    def listener(
        self, routes: Mapping[str, Route], settings: ServerSettings, tls: TlsFiles | None = None
    ) -> EnvoyListener:
        """The listener of this Envoy; a `MakeListener`."""
        return EnvoyListener(
            self, GrpcApp(routes, settings, secured=tls is not None), self._admin, tls
        )

    def open(self, app: GrpcApp) -> None:
        """From now on calls are served."""
        self._app = app
        self.opened.set()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """A call. There are none before the door is open, because Envoy does not listen."""
        if self._app is None:
            raise RuntimeError("a call before the start")
        await self._app(scope, receive, send)


class EnvoyListener:
    """The socket that Envoy listens on."""

    def __init__(self, door: Door, app: GrpcApp, admin: EnvoyAdmin, tls: TlsFiles | None) -> None:
        self._tls = tls
        self._door = door
        self._app = app
        self._admin = admin

    async def start(self, address: str, token_address: str | None = None) -> int:
        """Lets Envoy listen, and returns the port. Raises RuntimeError where it does not, or is to
        listen at two addresses; one that is taken ends the process.
        """
        if token_address is not None:
            raise RuntimeError("Envoy takes tokens at the address of all")
        if self._tls is not None:
            self._certify(self._tls.material)
            self._tls.subscribe(self._certify)
        self._door.open(self._app)
        end_s = time.monotonic() + _LISTEN_S
        while not await self._admin.listens():
            if time.monotonic() > end_s:
                raise RuntimeError(f"Envoy does not listen on {address}")
            await asyncio.sleep(_POLL_S)
        return int(address.rpartition(":")[2])

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, and cancels those that still run after `grace_s`.

        Connections are told to end before the socket closes, so that no call on them is lost.
        """
        end_s = time.monotonic() + grace_s
        if await self._admin.drain():
            await asyncio.sleep(min(DRAIN_S, grace_s))
        while (tasks := tuple(self._app.tasks)) and time.monotonic() < end_s:
            await asyncio.wait(tasks, timeout=end_s - time.monotonic())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _certify(self, material: TlsMaterial) -> None:
        write_secrets(self._admin.path, material.chain, material.key, material.client_ca)


class EnvoyAdmin:
    """Envoy's own interface for operators, on a socket that only this user can open."""

    def __init__(self, path: str) -> None:
        self.path = path

    async def listens(self) -> bool:
        """Whether its listener takes connections."""
        status, body = await self._ask("GET", "/listeners?format=json")
        if status != HTTPStatus.OK or not json.loads(body).get("listener_statuses"):
            return False
        status, _ = await self._ask("GET", "/ready")
        return status == HTTPStatus.OK

    async def drain(self) -> bool:
        """Sends callers elsewhere; False where Envoy is ending already and takes no wishes."""
        status, _ = await self._ask("POST", "/drain_listeners?graceful")
        return status == HTTPStatus.OK

    async def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        """A status, 0 where there was none, and the body."""
        try:
            return await asyncio.to_thread(self._asked, method, path)
        except (OSError, HTTPException):
            return 0, b""

    def _asked(self, method: str, path: str) -> tuple[int, bytes]:
        with contextlib.closing(_UnixConnection(self.path)) as connection:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()


class _UnixConnection(HTTPConnection):
    """HTTP on a socket that is a file."""

    def __init__(self, path: str) -> None:
        super().__init__("envoy", timeout=_ANSWER_S)
        self._path = path

    def connect(self) -> None:
        """Called by the first request."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
