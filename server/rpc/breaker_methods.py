"""The levers of the dependencies."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from core.errors import Unavailable
from server.rpc.call import CallContext
from standings.v1 import admin_service_pb2 as pb


class BreakerMethods:
    """The levers of the dependencies."""

    async def list_breakers(
        self, _request: pb.ListBreakersRequest, _call: CallContext
    ) -> pb.ListBreakersResponse:
        """The breakers."""
        raise Unavailable("not served yet")

    async def set_breaker(
        self, _request: pb.SetBreakerRequest, _call: CallContext
    ) -> pb.SetBreakerResponse:
        """Sets a mode."""
        raise Unavailable("not served yet")

    async def watch_breakers(
        self, _request: pb.WatchBreakersRequest, _call: CallContext
    ) -> AsyncGenerator[pb.WatchBreakersResponse, None]:
        """Follows them."""
        raise Unavailable("not served yet")
        yield pb.WatchBreakersResponse()

    async def inject_fault(
        self, _request: pb.InjectFaultRequest, _call: CallContext
    ) -> pb.InjectFaultResponse:
        """Sets a fault."""
        raise Unavailable("not served yet")

    async def list_faults(
        self, _request: pb.ListFaultsRequest, _call: CallContext
    ) -> pb.ListFaultsResponse:
        """The faults."""
        raise Unavailable("not served yet")

    async def clear_faults(
        self, _request: pb.ClearFaultsRequest, _call: CallContext
    ) -> pb.ClearFaultsResponse:
        """Ends faults."""
        raise Unavailable("not served yet")
