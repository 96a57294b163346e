"""Work that goes on after its call."""

from __future__ import annotations

from core.errors import Unavailable
from server.rpc.call import CallContext
from standings.v1 import admin_service_pb2 as pb


class OperationMethods:
    """Work that goes on after its call."""

    async def verify_shards(
        self, _request: pb.VerifyShardsRequest, _call: CallContext
    ) -> pb.VerifyShardsResponse:
        """Verifies."""
        raise Unavailable("not served yet")

    async def rebuild_shards(
        self, _request: pb.RebuildShardsRequest, _call: CallContext
    ) -> pb.RebuildShardsResponse:
        """Rebuilds."""
        raise Unavailable("not served yet")

    async def get_operation(
        self, _request: pb.GetOperationRequest, _call: CallContext
    ) -> pb.GetOperationResponse:
        """One."""
        raise Unavailable("not served yet")

    async def list_operations(
        self, _request: pb.ListOperationsRequest, _call: CallContext
    ) -> pb.ListOperationsResponse:
        """All."""
        raise Unavailable("not served yet")

    async def cancel_operation(
        self, _request: pb.CancelOperationRequest, _call: CallContext
    ) -> pb.CancelOperationResponse:
        """Stops one."""
        raise Unavailable("not served yet")
