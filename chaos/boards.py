"""The boards of a run: made through the server, filled past it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import grpc

from chaos.deployment import Deployment
from chaos.load import BOARDS
from standings.v1 import board_service_pb2 as pb
from standings.v1 import board_service_pb2_grpc as pb_grpc
from standings.v1 import types_pb2

_CALL_S: Final = 10.0


async def make_boards(deployment: Deployment, users: Mapping[str, int]) -> None:
    """Boards on which users 1 to so many have entries. The index, which knows nothing of them, is
    emptied, so that it is built.
    """
    async with grpc.aio.insecure_channel(deployment.address) as channel:
        stub = pb_grpc.BoardServiceStub(channel)
        for board_id, operator in BOARDS.items():
            board = types_pb2.Board(
                board_id=board_id,
                sort_order=types_pb2.SORT_ORDER_DESCENDING,
                subscore_sort_order=types_pb2.SORT_ORDER_DESCENDING,
                operator=types_pb2.Operator.Value(f"OPERATOR_{operator}"),
            )
            await stub.CreateBoard(pb.CreateBoardRequest(board=board), timeout=_CALL_S)
    await asyncio.gather(*(deployment.fill(board, count) for board, count in users.items()))
    await deployment.flush_index()
