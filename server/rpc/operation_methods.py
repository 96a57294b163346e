"""Work that goes on after its call: decode, call the use case, encode."""

from __future__ import annotations

from core.index_operations import IndexOperations
from server.rpc.call import CallContext
from server.rpc.codec import operations as codec
from standings.v1 import admin_service_pb2 as pb


class OperationMethods:
    """The part of standings.v1.AdminService that is about operations."""

    index_operations: IndexOperations

    async def verify_shards(
        self, request: pb.VerifyShardsRequest, _call: CallContext
    ) -> pb.VerifyShardsResponse:
        """Holds the index against PostgreSQL."""
        board_id, shards = codec.decode_scope(request)
        operation = await self.index_operations.verify(board_id, shards, repair=request.repair)
        return pb.VerifyShardsResponse(operation=codec.encode_operation(operation))

    async def rebuild_shards(
        self, request: pb.RebuildShardsRequest, _call: CallContext
    ) -> pb.RebuildShardsResponse:
        """Builds the index anew."""
        board_id, shards = codec.decode_scope(request)
        operation = await self.index_operations.rebuild(board_id, shards)
        return pb.RebuildShardsResponse(operation=codec.encode_operation(operation))

    async def get_operation(
        self, request: pb.GetOperationRequest, _call: CallContext
    ) -> pb.GetOperationResponse:
        """One operation."""
        operation = await self.index_operations.operations.get(request.operation_id)
        return pb.GetOperationResponse(operation=codec.encode_operation(operation))

    async def list_operations(
        self, _request: pb.ListOperationsRequest, _call: CallContext
    ) -> pb.ListOperationsResponse:
        """All of the last day; what each found is told by get_operation alone."""
        found = await self.index_operations.operations.all()
        briefs = [codec.encode_operation(one, brief=True) for one in found]
        return pb.ListOperationsResponse(operations=briefs)

    async def cancel_operation(
        self, request: pb.CancelOperationRequest, _call: CallContext
    ) -> pb.CancelOperationResponse:
        """Stops one."""
        operation = await self.index_operations.operations.cancel(request.operation_id)
        return pb.CancelOperationResponse(operation=codec.encode_operation(operation))
