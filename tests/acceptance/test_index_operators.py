"""`standings verify` and `standings rebuild`, against a running server."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from sharding.keys import season_keys
from standings.v1 import admin_service_pb2 as pb
from standings.v1 import admin_service_pb2_grpc as pb_grpc
from standings_client import Board
from tests.acceptance.test_operators import run
from tests.fixtures.server import RunningServer
from tests.integration.sharding import nodes

SHARD = 5
USER = 16 * 2 + SHARD
USERS = range(1, 101)


async def test_a_difference_is_told_and_repaired(standings: RunningServer) -> None:
    """Exit code 1 as long as one is left; the users are named."""
    await _fill(standings)
    address = ("--address", standings.admin_address)

    code, output, _ = await run("verify", "arena", *address)
    assert (code, "done: 16 of 16 shards of seasons, 100 entries" in output) == (0, True)

    h, _ = season_keys(SHARD, 1)
    await nodes.run(await nodes.owner(standings.cluster, SHARD), "HDEL", h, USER.to_bytes(8))

    code, output, _ = await run("verify", "arena", "--shards", "4,5", *address)
    assert code == 1
    assert f" {USER} " in output
    code, output, _ = await run("verify", "arena", "--repair", *address)
    assert (code, "rebuilt" in output) == (0, True)
    code, output, _ = await run("verify", *address)
    assert code == 0


async def test_an_index_is_built_anew_while_the_server_goes_on(standings: RunningServer) -> None:
    """And the operation can be asked for afterwards."""
    await _fill(standings)

    code, output, _ = await run("rebuild", "arena", "--address", standings.admin_address)
    assert (code, "done: 16 of 16 shards of seasons, 100 entries" in output) == (0, True)
    code, _, complaints = await run("rebuild", "nowhere", "--address", standings.admin_address)
    assert (code, "no board" in complaints) == (1, True)

    page = await standings.client.list_entries("arena", page_size=10)
    assert page.meta.entry_count == len(USERS)
    async with grpc.aio.insecure_channel(standings.admin_address) as channel:
        stub = pb_grpc.AdminServiceStub(channel)
        (operation,) = (await stub.ListOperations(pb.ListOperationsRequest())).operations
        assert operation.kind == pb.OPERATION_KIND_REBUILD
        assert operation.state == pb.OPERATION_STATE_DONE
        asked = pb.GetOperationRequest(operation_id=operation.operation_id)
        whole = (await stub.GetOperation(asked)).operation
        assert [shard.shard for shard in whole.shards] == list(range(16))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.CancelOperation(pb.CancelOperationRequest(operation_id="nothing"))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def _fill(standings: RunningServer) -> None:
    await standings.client.boards.create(Board(board_id="arena"))
    await asyncio.gather(*(standings.client.submit_score("arena", user, user) for user in USERS))
