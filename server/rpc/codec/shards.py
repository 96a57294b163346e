"""The state of the index out."""

from __future__ import annotations

from core.types import ShardReport
from server.rpc.codec import fields
from standings.v1 import admin_service_pb2 as pb


def encode_shard(report: ShardReport, breaker_state: int) -> pb.Shard:
    """One shard; no lag where it was never checkpointed."""
    return pb.Shard(
        shard=report.shard,
        node_address=report.node_address,
        slot=report.slot,
        entry_count=report.entry_count,
        watermark=report.watermark,
        lag=None if report.lag_ms is None else fields.duration(report.lag_ms),
        state=pb.ShardState.ValueType(report.state),
        breaker_state=pb.BreakerState.ValueType(breaker_state),
    )
