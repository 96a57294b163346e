"""The levers of the dependencies: decode, call the use case, encode."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from core.errors import Draining
from core.types import AuditNote
from server.drain import Drain
from server.levers.levers import Levers
from server.rpc.call import CallContext, actor_of
from server.rpc.codec import levers as codec
from standings.v1 import admin_service_pb2 as pb


class BreakerMethods:
    """The part of AdminService that is about breakers and faults; no store is asked."""

    levers: Levers
    drain: Drain

    async def list_breakers(
        self, _request: pb.ListBreakersRequest, _call: CallContext
    ) -> pb.ListBreakersResponse:
        """The breakers of the machine."""
        views = self.levers.list_breakers()
        return pb.ListBreakersResponse(breakers=map(codec.encode_breaker, views))

    async def set_breaker(
        self, request: pb.SetBreakerRequest, call: CallContext
    ) -> pb.SetBreakerResponse:
        """Forces breakers, or leaves them to themselves."""
        mode, ttl_ms = codec.decode_mode(request)
        note = codec.decode_note(request, call)
        done = await self.levers.set_breaker(request.name, mode, note, ttl_ms=ttl_ms)
        return codec.encode_set(done)

    async def watch_breakers(
        self, _request: pb.WatchBreakersRequest, _call: CallContext
    ) -> AsyncGenerator[pb.WatchBreakersResponse, None]:
        """The breakers, until the caller or the worker goes away."""
        async with aclosing(self.levers.watch_breakers(lambda: self.drain.started)) as messages:
            async for views in messages:
                yield pb.WatchBreakersResponse(breakers=map(codec.encode_breaker, views))
        raise Draining

    async def inject_fault(
        self, request: pb.InjectFaultRequest, call: CallContext
    ) -> pb.InjectFaultResponse:
        """Makes calls fail on purpose."""
        fault, ttl_ms = codec.decode_fault(request)
        note = codec.decode_note(request, call)
        faults = await self.levers.faults.inject(request.target, fault, note, ttl_ms=ttl_ms)
        return pb.InjectFaultResponse(faults=codec.encode_faults(faults))

    async def list_faults(
        self, _request: pb.ListFaultsRequest, _call: CallContext
    ) -> pb.ListFaultsResponse:
        """The faults in force."""
        return pb.ListFaultsResponse(faults=codec.encode_faults(self.levers.faults.in_force()))

    async def clear_faults(
        self, request: pb.ClearFaultsRequest, call: CallContext
    ) -> pb.ClearFaultsResponse:
        """Ends faults."""
        note = AuditNote(
            actor=actor_of(call)[: codec.ACTOR_CHARS_MAX], reason="", request_id=call.request_id
        )
        left = await self.levers.faults.clear(request.target, note)
        return pb.ClearFaultsResponse(faults=codec.encode_faults(left))
