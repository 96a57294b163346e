"""What a transport is to the rest of the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from bootstrap.server_settings import ServerSettings
from server.rpc.chain import Route


class Listener(Protocol):
    """One listening socket that serves the routes of a chain."""

    async def start(self, address: str) -> int:
        """Listens, and returns the port. Raises RuntimeError when the address is taken."""

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, and cancels those that still run after `grace_s`."""


class MakeListener(Protocol):
    """Makes a listener, which does not listen yet."""

    def __call__(self, routes: Mapping[str, Route], settings: ServerSettings) -> Listener:
        """A listener for these routes."""
