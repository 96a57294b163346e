"""Who may call what: every method by every role, with a certificate, a token and nothing; on a real
server, over TLS.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2 as health  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2 as reflection  # type: ignore[import-untyped]

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.server_settings import Transport
from server.identity.policy import POLICY
from standings.v1 import admin_service_pb2 as admin
from standings.v1 import board_service_pb2 as boards
from standings.v1 import moderation_service_pb2 as moderation
from standings.v1 import ranking_service_pb2 as ranking
from standings.v1 import types_pb2 as types
from tests.fixtures.secured import Secured, secured

pytestmark = pytest.mark.both_transports

ROLES = ("game-server", "client", "internal", "sre", "privacy-officer")
BOARD = "arena.main"
REASON = "asked by a test"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Row:
    """A method: who may call it, with what, and what it says then."""

    roles: tuple[str, ...]
    request: Message
    answer: type[Message]
    says: str = "OK"
    streams: str = ""
    """Which side streams: "", "out" or "both"."""


_GAMES = ("game-server", "client")
_READERS = ("game-server", "client", "internal")
_SUBMISSION = ranking.SubmitScoreRequest(board_id=BOARD, user_id=7, score=5)
_SRE = ("sre",)

_RANKING: Mapping[str, Row] = {
    "SubmitScore": Row(_GAMES, _SUBMISSION, ranking.SubmitScoreResponse),
    "BatchSubmitScores": Row(
        _GAMES,
        ranking.BatchSubmitScoresRequest(submissions=[_SUBMISSION]),
        ranking.BatchSubmitScoresResponse,
    ),
    "StreamSubmitScores": Row(
        _GAMES,
        ranking.StreamSubmitScoresRequest(submissions=[_SUBMISSION]),
        ranking.StreamSubmitScoresResponse,
        streams="both",
    ),
    "GetEntry": Row(
        _READERS, ranking.GetEntryRequest(board_id=BOARD, user_id=7), ranking.GetEntryResponse
    ),
    "BatchGetEntries": Row(
        _READERS,
        ranking.BatchGetEntriesRequest(board_id=BOARD, user_ids=[7]),
        ranking.BatchGetEntriesResponse,
    ),
    "ListEntries": Row(
        _READERS, ranking.ListEntriesRequest(board_id=BOARD), ranking.ListEntriesResponse
    ),
    "ListEntriesAround": Row(
        _READERS,
        ranking.ListEntriesAroundRequest(board_id=BOARD, user_id=7),
        ranking.ListEntriesAroundResponse,
    ),
    "EstimateRank": Row(
        _READERS,
        ranking.EstimateRankRequest(board_id=BOARD, score=5),
        ranking.EstimateRankResponse,
    ),
    "GetPercentile": Row(
        _READERS,
        ranking.GetPercentileRequest(board_id=BOARD, percent=50),
        ranking.GetPercentileResponse,
    ),
    "WatchEntries": Row(
        _READERS,
        ranking.WatchEntriesRequest(board_id=BOARD, top_count=1),
        ranking.WatchEntriesResponse,
        streams="out",
    ),
    "DeleteEntry": Row(
        ("game-server", "privacy-officer"),
        ranking.DeleteEntryRequest(board_id=BOARD, user_id=999),
        ranking.DeleteEntryResponse,
        says="NOT_FOUND",
    ),
}
_BOARDS: Mapping[str, Row] = {
    "CreateBoard": Row(
        ("game-server", "sre"),
        boards.CreateBoardRequest(board=types.Board(board_id=BOARD)),
        boards.CreateBoardResponse,
        says="ALREADY_EXISTS",
    ),
    "GetBoard": Row(
        ("game-server", "client", "internal", "sre"),
        boards.GetBoardRequest(board_id=BOARD),
        boards.GetBoardResponse,
    ),
    "ListBoards": Row(
        ("game-server", "internal", "sre"), boards.ListBoardsRequest(), boards.ListBoardsResponse
    ),
    "UpdateBoard": Row(
        ("game-server", "sre"),
        boards.UpdateBoardRequest(
            board=types.Board(board_id=BOARD, title="new"), update_mask={"paths": ["title"]}
        ),
        boards.UpdateBoardResponse,
    ),
    "DeleteBoard": Row(
        ("game-server", "sre"),
        boards.DeleteBoardRequest(board_id="arena.absent"),
        boards.DeleteBoardResponse,
        says="NOT_FOUND",
    ),
}
_MODERATORS = ("game-server", "sre", "privacy-officer")
_MODERATION: Mapping[str, Row] = {
    "HideUser": Row(
        _MODERATORS,
        moderation.HideUserRequest(user_id=500, board_id=BOARD, reason=REASON),
        moderation.HideUserResponse,
    ),
    "RestoreUser": Row(
        _MODERATORS,
        moderation.RestoreUserRequest(user_id=500, board_id=BOARD, reason=REASON),
        moderation.RestoreUserResponse,
    ),
    "DeleteUser": Row(
        ("privacy-officer",),
        moderation.DeleteUserRequest(user_id=501, reason=REASON),
        moderation.DeleteUserResponse,
    ),
}
_ADMIN: Mapping[str, Row] = {
    "ListShards": Row(_SRE, admin.ListShardsRequest(), admin.ListShardsResponse),
    "ListBreakers": Row(_SRE, admin.ListBreakersRequest(), admin.ListBreakersResponse),
    "SetBreaker": Row(
        _SRE,
        admin.SetBreakerRequest(name="absent", mode=admin.BREAKER_MODE_AUTO, reason=REASON),
        admin.SetBreakerResponse,
        says="NOT_FOUND",
    ),
    "WatchBreakers": Row(
        _SRE, admin.WatchBreakersRequest(), admin.WatchBreakersResponse, streams="out"
    ),
    "VerifyShards": Row(
        _SRE, admin.VerifyShardsRequest(board_id=BOARD, shards=[0]), admin.VerifyShardsResponse
    ),
    "RebuildShards": Row(
        _SRE,
        admin.RebuildShardsRequest(board_id="arena.absent"),
        admin.RebuildShardsResponse,
        says="NOT_FOUND",
    ),
    "GetOperation": Row(
        _SRE,
        admin.GetOperationRequest(operation_id="absent"),
        admin.GetOperationResponse,
        says="NOT_FOUND",
    ),
    "ListOperations": Row(_SRE, admin.ListOperationsRequest(), admin.ListOperationsResponse),
    "CancelOperation": Row(
        _SRE,
        admin.CancelOperationRequest(operation_id="absent"),
        admin.CancelOperationResponse,
        says="NOT_FOUND",
    ),
    "InjectFault": Row(
        _SRE,
        admin.InjectFaultRequest(target="absent", kind=admin.FAULT_KIND_ERROR, reason=REASON),
        admin.InjectFaultResponse,
        says="NOT_FOUND",
    ),
    "ListFaults": Row(_SRE, admin.ListFaultsRequest(), admin.ListFaultsResponse),
    "ClearFaults": Row(_SRE, admin.ClearFaultsRequest(), admin.ClearFaultsResponse),
    "ListAuditEvents": Row(
        ("sre", "privacy-officer"),
        admin.ListAuditEventsRequest(),
        admin.ListAuditEventsResponse,
    ),
}
_ANYBODY = (*ROLES, "")
_HEALTH: Mapping[str, Row] = {
    "Check": Row(_ANYBODY, health.HealthCheckRequest(), health.HealthCheckResponse),
    "Watch": Row(_ANYBODY, health.HealthCheckRequest(), health.HealthCheckResponse, streams="out"),
    "List": Row(("internal", "sre"), health.HealthListRequest(), health.HealthListResponse),
}
_REFLECTION: Mapping[str, Row] = {
    "ServerReflectionInfo": Row(
        ROLES,
        reflection.ServerReflectionRequest(list_services=""),
        reflection.ServerReflectionResponse,
        streams="both",
    )
}


def _public() -> Iterator[tuple[str, Row]]:
    """The methods for games, by path."""
    for service, rows in (
        ("standings.v1.RankingService", _RANKING),
        ("standings.v1.BoardService", _BOARDS),
        ("standings.v1.ModerationService", _MODERATION),
        ("grpc.health.v1.Health", _HEALTH),
        ("grpc.reflection.v1alpha.ServerReflection", _REFLECTION),
    ):
        for name, row in rows.items():
            yield f"/{service}/{name}", row


def _operators() -> Iterator[tuple[str, Row]]:
    """The methods for operators."""
    for name, row in _ADMIN.items():
        yield f"/standings.v1.AdminService/{name}", row
    for name, row in _HEALTH.items():
        yield f"/grpc.health.v1.Health/{name}", row


async def said(
    channel: grpc.aio.Channel, path: str, row: Row, metadata: tuple[tuple[str, str], ...] = ()
) -> str:
    """The code with which a method answers."""
    write, read = type(row.request).SerializeToString, row.answer.FromString
    told: Any = {"timeout": 20, "metadata": metadata}
    try:
        if row.streams == "both":
            stream = channel.stream_stream(path, write, read)(iter((row.request,)), **told)
            assert await stream.read() is not grpc.aio.EOF
            stream.cancel()
        elif row.streams == "out":
            answers = channel.unary_stream(path, write, read)(row.request, **told)
            assert await answers.read() is not grpc.aio.EOF
            answers.cancel()
        else:
            await channel.unary_unary(path, write, read)(row.request, **told)
    except grpc.aio.AioRpcError as error:
        if "execute_batch" in (error.debug_error_string() or ""):
            # The call was over before grpc.aio had sent its message; it tells of that only, and not
            # what the server said.
            return await said(channel, path, row, metadata)
        return error.code().name
    return "OK"


async def prepare(running: Secured) -> None:
    """A board on which players may submit, and one entry on it."""
    await running.server.line("worker ready")
    channel = running.channel(running.server.address, running.caller("game-server/eu1"))
    await _prepare(channel, ())


async def _prepare(channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
    create = Row((), _new_board(), boards.CreateBoardResponse)
    assert await said(channel, "/standings.v1.BoardService/CreateBoard", create, metadata) == "OK"
    submit = _RANKING["SubmitScore"]
    path = "/standings.v1.RankingService/SubmitScore"
    assert await said(channel, path, submit, metadata) == "OK"


def _new_board() -> boards.CreateBoardRequest:
    return boards.CreateBoardRequest(board=types.Board(board_id=BOARD, client_writes=True))


def test_the_matrix_has_every_method() -> None:
    """The table that is tested here has all that the server's own has."""
    assert {path for path, _ in (*_public(), *_operators())} == POLICY.keys()


async def test_certificates(
    database: str, redis_cluster: EmbeddedRedisCluster, transport: Transport, tmp_path: Path
) -> None:
    """Every method by every role with a certificate; without one there is no connection."""
    async with secured(
        tmp_path, database, redis_cluster, transport, certificates=True, tokens=False
    ) as running:
        await prepare(running)
        server = running.server
        for role in ROLES:
            pair = running.caller(f"{role}/somebody")
            for address, rows in (
                (server.address, _public()),
                (server.admin_address, _operators()),
            ):
                channel = running.channel(address, pair)
                for path, row in rows:
                    expected = row.says if role in row.roles else "PERMISSION_DENIED"
                    # Players have no certificates: one that says so names nobody.
                    if role == "client" and "" not in row.roles:
                        expected = "UNAUTHENTICATED"
                    assert (path, role, await said(channel, path, row)) == (path, role, expected)
        for address, rows in ((server.address, _public()), (server.admin_address, _operators())):
            channel = running.channel(address)
            for path, row in rows:
                assert (path, await said(channel, path, row)) == (path, "UNAVAILABLE")


async def test_tokens(
    database: str, redis_cluster: EmbeddedRedisCluster, transport: Transport, tmp_path: Path
) -> None:
    """Every method by every role with a token, and with nothing."""
    async with secured(
        tmp_path, database, redis_cluster, transport, certificates=False, tokens=True
    ) as running:
        server, issuer = running.server, running.issuer
        await server.line("worker ready")
        public = running.channel(server.address)
        operators = running.channel(server.admin_address)
        await _prepare(public, _bearer(issuer.token("game-server")))
        for role in ROLES:
            for channel, rows in ((public, _public()), (operators, _operators())):
                for path, row in rows:
                    # A new one for each call: an operator's is good for one act.
                    metadata = _bearer(issuer.token(role))
                    expected = row.says if role in row.roles else "PERMISSION_DENIED"
                    result = await said(channel, path, row, metadata)
                    assert (path, role, result) == (path, role, expected)
        for channel, rows in ((public, _public()), (operators, _operators())):
            for path, row in rows:
                expected = row.says if "" in row.roles else "UNAUTHENTICATED"
                assert (path, await said(channel, path, row)) == (path, expected)


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)
