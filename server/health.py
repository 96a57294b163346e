"""What health checks are told: a map of named components, none of which serves until proven.

A component is a store ("postgres"), a service by its full name, or "" for the whole server. The
whole and its services serve once every store has proven itself; from then on a store that fails
shows under its own name only. To take every worker out of the balancer because one store is away
would help nobody: calls say UNAVAILABLE themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2 as pb  # type: ignore[import-untyped]

from core.errors import Draining
from server.errors import UnknownComponent
from server.identity.identity import NOBODY, Identity
from server.rpc.call import CallContext

OVERALL: Final = ""


class Health:
    """The components and their state."""

    def __init__(self, components: Iterable[str]) -> None:
        self._components = dict.fromkeys(components, False)
        self._unproven = set(self._components)
        self._services = {OVERALL}
        self._draining = False
        self._changed = asyncio.Event()

    @property
    def draining(self) -> bool:
        """Whether this is the last state there will be."""
        return self._draining

    def add_services(self, names: Iterable[str]) -> None:
        """Names of services that stand and fall with the whole."""
        self._services.update(names)

    def set(self, component: str, *, serving: bool) -> None:
        """Says how a component is. Raises KeyError for one that was not named at the start."""
        if self._components[component] == serving:
            return
        self._components[component] = serving
        if serving:
            self._unproven.discard(component)
        self._tell()

    def drain(self) -> None:
        """Everything is NOT_SERVING from here on."""
        self._draining = True
        self._tell()

    def serving(self, name: str) -> bool:
        """Whether a component serves. Raises UnknownComponent."""
        if name in self._services:
            return not self._unproven and not self._draining
        if name not in self._components:
            raise UnknownComponent
        return self._components[name] and not self._draining

    def serving_to(self, identity: Identity, name: str) -> bool:
        """The same for a caller: to one that nobody knows there are services only."""
        if identity is NOBODY and name not in self._services:
            raise UnknownComponent
        return self.serving(name)

    def names(self) -> tuple[str, ...]:
        """All components, in order."""
        return tuple(sorted(self._services | self._components.keys()))

    async def changed(self) -> None:
        """Waits for the next change of anything; look at the state before the first await."""
        await self._changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


@dataclass(frozen=True, slots=True)
class HealthServicer:
    """Answers grpc.health.v1.Health."""

    service: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["Health"]

    health: Health

    async def check(
        self, request: pb.HealthCheckRequest, call: CallContext
    ) -> pb.HealthCheckResponse:
        """How a component is now. NOT_FOUND when there is none of that name."""
        return _response(serving=self.health.serving_to(call.identity, request.service))

    async def list(
        self, _request: pb.HealthListRequest, _call: CallContext
    ) -> pb.HealthListResponse:
        """How all components are now."""
        health = self.health
        return pb.HealthListResponse(
            statuses={name: _response(serving=health.serving(name)) for name in health.names()}
        )

    async def watch(
        self, request: pb.HealthCheckRequest, call: CallContext
    ) -> AsyncGenerator[pb.HealthCheckResponse, None]:
        """How a component is now and whenever that changes; ends when the worker goes away.

        A slow reader misses changes in between, never the last one.
        """
        last = None
        while True:
            answer = self._watched(request.service, call.identity)
            if answer != last:
                last = answer
                yield answer
                continue
            if self.health.draining:
                raise Draining
            await self.health.changed()

    def _watched(self, name: str, identity: Identity) -> pb.HealthCheckResponse:
        try:
            return _response(serving=self.health.serving_to(identity, name))
        except UnknownComponent:
            return pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVICE_UNKNOWN)


def _response(*, serving: bool) -> pb.HealthCheckResponse:
    status = pb.HealthCheckResponse.SERVING if serving else pb.HealthCheckResponse.NOT_SERVING
    return pb.HealthCheckResponse(status=status)
