"""What operators ask: decode, call the use case, encode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from core.index_operations import IndexOperations
from core.list_audit_events import ListAuditEvents
from core.list_shards import ListShards
from server.drain import Drain
from server.levers.levers import Levers
from server.rpc.audit_methods import AuditMethods
from server.rpc.breaker_methods import BreakerMethods
from server.rpc.call import CallContext
from server.rpc.codec.shards import encode_shard
from server.rpc.operation_methods import OperationMethods
from standings.v1 import admin_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class AdminServicer(BreakerMethods, OperationMethods, AuditMethods):
    """Answers standings.v1.AdminService."""

    service: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["AdminService"]

    all_shards: ListShards
    levers: Levers
    drain: Drain
    index_operations: IndexOperations
    all_audit_events: ListAuditEvents

    async def list_shards(
        self, _request: pb.ListShardsRequest, _call: CallContext
    ) -> pb.ListShardsResponse:
        """The shards of the index."""
        reports = await self.all_shards()
        return pb.ListShardsResponse(
            shards=[
                encode_shard(report, self.levers.shard_state(report.shard)) for report in reports
            ]
        )
