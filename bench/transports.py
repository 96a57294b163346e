"""The transports that can be measured: who listens for the floor, and how the product is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from bootstrap.server_settings import ServerSettings
from server.rpc.chain import Route
from server.transport.grpcio import GrpcioListener


class Listener(Protocol):
    """One listening socket, as server/transport/ has them."""

    async def start(self, address: str) -> int:
        """Listens, and returns the port."""

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, and cancels those that still run after `grace_s`."""


@dataclass(frozen=True, slots=True)
class Transport:
    """`listener` is made of routes and settings; `settings` choose it in the environment of
    `standings serve`.
    """

    listener: Callable[[Mapping[str, Route], ServerSettings], Listener]
    settings: Mapping[str, str] = field(default_factory=dict)


TRANSPORTS: Final[Mapping[str, Transport]] = {"grpcio": Transport(GrpcioListener)}
