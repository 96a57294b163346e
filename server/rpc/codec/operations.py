"""Operations: what is asked of them in, how they are out."""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import InvalidInput
from core.operations import Operation, OperationShard
from core.types import SHARD_COUNT
from server.rpc.codec import fields
from server.rpc.status import later_status
from standings.v1 import admin_service_pb2 as pb


def decode_scope(
    request: pb.VerifyShardsRequest | pb.RebuildShardsRequest,
) -> tuple[str, Sequence[int]]:
    """A board, or every one, and shards, or all."""
    board_id = fields.board_id(request.board_id) if request.board_id else ""
    for place, shard in enumerate(request.shards):
        if not 0 <= shard < SHARD_COUNT:
            raise InvalidInput(f"shards[{place}]", f"must be 0 to {SHARD_COUNT - 1}")
    return board_id, list(request.shards)


def encode_operation(operation: Operation, *, brief: bool = False) -> pb.Operation:
    """One operation; a brief one without its shards, of which a list could not carry all."""
    ended_ms = operation.end_time_ms
    failed = operation.error_reason != ""
    return pb.Operation(
        operation_id=operation.operation_id,
        kind=pb.OperationKind.ValueType(operation.kind),
        state=pb.OperationState.ValueType(operation.state),
        create_time=fields.timestamp(operation.create_time_ms),
        end_time=None if ended_ms is None else fields.timestamp(ended_ms),
        done_count=operation.done_count,
        total_count=operation.total_count,
        entry_count=operation.entry_count,
        shards=() if brief else map(_encode_shard, operation.shards),
        error=later_status(operation.error_reason, operation.error_text) if failed else None,
    )


def _encode_shard(shard: OperationShard) -> pb.OperationShard:
    return pb.OperationShard(
        board_id=shard.board_id,
        season_id=shard.season_id,
        shard=shard.shard,
        database_entry_count=shard.database_entry_count,
        index_entry_count=shard.index_entry_count,
        difference_count=shard.difference_count,
        user_ids=shard.user_ids,
        rebuilt=shard.rebuilt,
    )
