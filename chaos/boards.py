"""The boards of a run: made through the server, and filled through it or past it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import grpc
import psycopg

from chaos.load import BOARDS, new_id
from standings.v1 import board_service_pb2 as boards_pb
from standings.v1 import board_service_pb2_grpc as boards_grpc
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings.v1 import types_pb2

_CALL_S: Final = 10.0
_BATCH_SIZE: Final = 500
_FILL: Final = """
insert into entries (shard, season_no, user_id, score, subscore, arrival, revision,
                     submission_count, achieve_time, update_time, state, outcome, batch_place,
                     rank_key)
select u %% 16, s.season_no, u, x.score, 0, u, 1, 1, now(), now(), 0, 1, 1,
       rank_key_of(x.score, 0, u, -1, -1)
from generate_series(1::bigint, %(count)s) u
cross join lateral (select abs(hashint8(u)::bigint) %% 100000 as score) x
cross join seasons s join boards b using (board_no)
where b.board_id = %(board)s
"""
"""Scores in no order; each user's arrival is its number. Both columns of a board descend."""


async def make_boards(address: str) -> None:
    """Makes those that are not there. Raises grpc.aio.AioRpcError."""
    for board_id, operator in BOARDS.items():
        await make_board(address, board_id, operator)


async def make_board(address: str, board_id: str, operator: str) -> None:
    """Makes a board unless it is there, best first from the top. Raises grpc.aio.AioRpcError."""
    board = types_pb2.Board(
        board_id=board_id,
        sort_order=types_pb2.SORT_ORDER_DESCENDING,
        subscore_sort_order=types_pb2.SORT_ORDER_DESCENDING,
        operator=types_pb2.Operator.Value(f"OPERATOR_{operator}"),
    )
    async with grpc.aio.insecure_channel(address) as channel:
        stub = boards_grpc.BoardServiceStub(channel)
        try:
            await stub.CreateBoard(boards_pb.CreateBoardRequest(board=board), timeout=_CALL_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise


async def fill_boards(address: str, users: Mapping[str, int]) -> None:
    """Gives users 1 to so many an entry. Raises grpc.aio.AioRpcError."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pb_grpc.RankingServiceStub(channel)
        for board, count in users.items():
            for first in range(1, count + 1, _BATCH_SIZE):
                batch = [
                    pb.SubmitScoreRequest(
                        board_id=board, user_id=user, score=user, submission_id=new_id()
                    )
                    for user in range(first, min(first + _BATCH_SIZE, count + 1))
                ]
                request = pb.BatchSubmitScoresRequest(submissions=batch)
                await stub.BatchSubmitScores(request, timeout=_CALL_S)


async def fill_past_server(dsn: str, board: str, count: int) -> None:
    """Gives users 1 to `count` entries in PostgreSQL alone: the index knows nothing of them."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(_FILL, {"count": count, "board": board})
        await connection.execute("vacuum analyze entries")
        # What it wrote goes to disk now, and not while something is measured.
        await connection.execute("checkpoint")
