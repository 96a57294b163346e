"""Operations on the wire: what is refused, and what is told."""

from __future__ import annotations

import grpc
import pytest

from core.errors import BoardNotFound, OperationNotFound
from standings.v1 import admin_service_pb2 as pb
from tests.unit.server.fakes import Serving, details_of, unpacked


async def test_an_operation_is_told_whole(serving: Serving) -> None:
    """Every field, and why it failed."""
    answer = await serving.admin.GetOperation(pb.GetOperationRequest(operation_id="0" * 32))

    operation = answer.operation
    assert operation.kind == pb.OPERATION_KIND_VERIFY
    assert operation.state == pb.OPERATION_STATE_FAILED
    assert (operation.done_count, operation.total_count, operation.entry_count) == (3, 16, 99)
    assert operation.end_time.ToMilliseconds() - operation.create_time.ToMilliseconds() == 1000
    assert list(operation.shards) == [
        pb.OperationShard(
            board_id="arena",
            season_id="s1",
            shard=5,
            database_entry_count=7,
            index_entry_count=6,
            difference_count=1,
            user_ids=[42],
            rebuilt=True,
        )
    ]
    assert operation.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert unpacked(operation.error)["ErrorInfo"].reason == "INDEX_UNAVAILABLE"


async def test_a_list_leaves_out_what_each_one_found(serving: Serving) -> None:
    """A hundred operations with all their shards would not fit into an answer."""
    answer = await serving.admin.ListOperations(pb.ListOperationsRequest())

    (operation,) = answer.operations
    assert (operation.done_count, len(operation.shards)) == (3, 0)


async def test_work_is_begun_for_boards_and_shards(serving: Serving) -> None:
    """One board or all of them, some shards or all."""
    await serving.admin.VerifyShards(
        pb.VerifyShardsRequest(board_id="arena", shards=[0, 15], repair=True)
    )
    await serving.admin.RebuildShards(pb.RebuildShardsRequest())
    await serving.admin.CancelOperation(pb.CancelOperationRequest(operation_id="x"))

    # What there is to cancel is looked at for the audit.
    calls = ["verify_shards", "rebuild_shards", "get_operation", "cancel_operation"]
    assert serving.fakes.calls == calls
    assert serving.fakes.arguments == [("arena", [0, 15], True), ("", []), ("x",), ("x",)]


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"shards": [3, 16]}, "shards[1]"), ({"shards": [-1]}, "shards[0]"), ({"board_id": "A"}, "")],
)
async def test_what_cannot_be_is_refused(
    serving: Serving, fields: dict[str, object], field: str
) -> None:
    """No store is asked."""
    for call in (
        serving.admin.VerifyShards(pb.VerifyShardsRequest(**fields)),
        serving.admin.RebuildShards(pb.RebuildShardsRequest(**fields)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        violation = details_of(refused.value)["BadRequest"].field_violations[0]
        assert violation.field == (field or "board_id")
    assert serving.fakes.calls == []


@pytest.mark.parametrize("error", [OperationNotFound(), BoardNotFound()])
async def test_what_is_not_there_is_not_found(serving: Serving, error: Exception) -> None:
    """An operation, or a board."""
    serving.fakes.error = error
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await serving.admin.GetOperation(pb.GetOperationRequest(operation_id="?"))

    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
