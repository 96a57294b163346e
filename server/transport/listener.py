"""What a transport is to the rest of the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from bootstrap.server_settings import ServerSettings
from server.identity.tls_files import TlsFiles
from server.rpc.chain import Route


class Listener(Protocol):
    """One listening socket that serves the routes of a chain."""

    async def start(self, address: str, token_address: str | None = None) -> int:
        """Listens, and returns the port. At `token_address`, if there is one, callers are not asked
        for a certificate. Raises RuntimeError when an address is taken.
        """

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, and cancels those that still run after `grace_s`."""


class MakeListener(Protocol):
    """Makes a listener, which does not listen yet."""

    def __call__(
        self, routes: Mapping[str, Route], settings: ServerSettings, tls: TlsFiles | None
    ) -> Listener:
        """A listener for these routes; without TLS where there are no files for it."""
