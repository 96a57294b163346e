"""Work that goes on after its call: decode, call the use case, encode."""

from __future__ import annotations

import logging

from core.index_operations import IndexOperations
from server.rpc.call import CallContext
from server.rpc.codec import operations as codec
from standings.v1 import admin_service_pb2 as pb

_log = logging.getLogger(__name__)


class OperationMethods:
    """The part of standings.v1.AdminService that is about operations."""

    index_operations: IndexOperations

    async def verify_shards(
        self, request: pb.VerifyShardsRequest, call: CallContext
    ) -> pb.VerifyShardsResponse:
        """Holds the index against PostgreSQL."""
        board_id, shards = codec.decode_scope(request)
        operation = await self.index_operations.verify(board_id, shards, repair=request.repair)
        _note("operator began to verify the index", operation.operation_id, call, board_id)
        return pb.VerifyShardsResponse(operation=codec.encode_operation(operation))

    async def rebuild_shards(
        self, request: pb.RebuildShardsRequest, call: CallContext
    ) -> pb.RebuildShardsResponse:
        """Builds the index anew."""
        board_id, shards = codec.decode_scope(request)
        operation = await self.index_operations.rebuild(board_id, shards)
        _note("operator began to rebuild the index", operation.operation_id, call, board_id)
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
        self, request: pb.CancelOperationRequest, call: CallContext
    ) -> pb.CancelOperationResponse:
        """Stops one."""
        operation = await self.index_operations.operations.cancel(request.operation_id)
        _note("operator cancelled an operation", operation.operation_id, call)
        return pb.CancelOperationResponse(operation=codec.encode_operation(operation))


def _note(text: str, operation_id: str, call: CallContext, board_id: str = "") -> None:
    """One line for each act of an operator."""
    fields = {"operation_id": operation_id, "peer": call.peer, "request_id": call.request_id}
    _log.warning(text, extra={**fields, "board_id": board_id} if board_id else fields)
