"""The boards of a run, made and filled through the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import grpc

from bench.errors import BenchFailed
from bench.requests import BATCH_SIZE, SCORE_MAX, Requests
from standings.v1 import board_service_pb2 as boards_pb
from standings.v1 import board_service_pb2_grpc as boards_grpc
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings.v1 import types_pb2

_CALL_S: Final = 20.0
_FILLERS: Final = 4


async def make_board(address: str, board_id: str) -> None:
    """Raises BenchFailed."""
    board = types_pb2.Board(
        board_id=board_id,
        sort_order=types_pb2.SORT_ORDER_DESCENDING,
        subscore_sort_order=types_pb2.SORT_ORDER_DESCENDING,
        # Every submission changes its entry, in both stores: with BEST most of them soon would not.
        operator=types_pb2.OPERATOR_SET,
    )
    async with grpc.aio.insecure_channel(address) as channel:
        stub = boards_grpc.BoardServiceStub(channel)
        try:
            await stub.CreateBoard(boards_pb.CreateBoardRequest(board=board), timeout=_CALL_S)
        except grpc.aio.AioRpcError as error:
            raise BenchFailed(f"{address} makes no board: {error.details()}") from error


async def drop_board(address: str, board_id: str) -> None:
    """Takes a board away with all that was put on it. Raises grpc.aio.AioRpcError."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = boards_grpc.BoardServiceStub(channel)
        await stub.DeleteBoard(boards_pb.DeleteBoardRequest(board_id=board_id), timeout=_CALL_S)


async def fill_through_server(
    address: str, board_id: str, count: int, new_id: Callable[[], str]
) -> None:
    """The same as any game would do it. Raises BenchFailed."""
    firsts = iter(range(1, count + 1, BATCH_SIZE))
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pb_grpc.RankingServiceStub(channel)

        async def fill() -> None:
            for first in firsts:
                batch = [
                    pb.SubmitScoreRequest(
                        board_id=board_id,
                        user_id=user,
                        score=user * 7_919 % SCORE_MAX,
                        submission_id=new_id(),
                    )
                    for user in range(first, min(first + BATCH_SIZE, count + 1))
                ]
                request = pb.BatchSubmitScoresRequest(submissions=batch)
                answer = await stub.BatchSubmitScores(request, timeout=_CALL_S)
                require_recorded(answer.results)

        try:
            await asyncio.gather(*(fill() for _ in range(_FILLERS)))
        except grpc.aio.AioRpcError as error:
            raise BenchFailed(f"{address} takes no scores: {error.details()}") from error


async def prove_batches(address: str, requests: Requests) -> None:
    """Sends one batch and looks at each result: ghz sees the status of a call alone. Raises
    BenchFailed.
    """
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pb_grpc.RankingServiceStub(channel)
        answer = await stub.BatchSubmitScores(requests.batch_submit_scores(), timeout=_CALL_S)
    require_recorded(answer.results)
    if not all(result.response.indexed for result in answer.results):
        raise BenchFailed("the index did not take a batch: what was measured would be less")


async def token_of(address: str, requests: Requests) -> str:
    """The consistency token of a submission."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pb_grpc.RankingServiceStub(channel)
        answer = await stub.SubmitScore(requests.submit_score(), timeout=_CALL_S)
    return answer.consistency_token


def require_recorded(results: Iterable[pb.BatchSubmitResult]) -> None:
    """Raises BenchFailed where a submission of a batch was not recorded."""
    for result in results:
        if not result.HasField("response"):
            raise BenchFailed(f"a submission was refused: {result.error.message}")
