"""The state of the index out."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from core.types import ShardReport
from standings.v1 import admin_service_pb2 as pb


def encode_shard(report: ShardReport) -> pb.Shard:
    """One shard; no lag where it was never checkpointed."""
    return pb.Shard(
        shard=report.shard,
        node_address=report.node_address,
        slot=report.slot,
        entry_count=report.entry_count,
        watermark=report.watermark,
        lag=None if report.lag_ms is None else _duration(report.lag_ms),
        state=pb.ShardState.ValueType(report.state),
    )


def _duration(time_ms: int) -> Duration:
    seconds, ms = divmod(time_ms, 1000)
    return Duration(seconds=seconds, nanos=ms * 1_000_000)
