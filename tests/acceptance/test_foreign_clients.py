"""Clients in other languages and a tool see what they should, by both transports.

The programs in tests/clients call a server and print what they saw; here is what there is to see.
They are given the services' descriptors in a file, so there is no generated code of any of them.
Skipped where a language or the packages of a program cannot be had.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.server_settings import Transport
from standings.v1 import board_service_pb2, ranking_service_pb2
from tests.fixtures.processes import ServerProcess, server_process
from tests.fixtures.redis import empty
from tests.fixtures.server import settings_for

pytestmark = pytest.mark.both_transports

CLIENTS: Final = Path(__file__).resolve().parents[1] / "clients"
BUF: Final = Path(sys.executable).with_name("buf")
BUILD_S: Final = 240
RUN_S: Final = 90
ONE: Final = {
    transport: {
        "STANDINGS_SERVER_TRANSPORT": transport.value,
        "STANDINGS_SERVER_WORKERS": "1",
    }
    for transport in Transport
}
"""A server of one worker."""
SERVICES: Final = (
    "standings.v1.RankingService",
    "standings.v1.BoardService",
    "standings.v1.ModerationService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
)


_DUE: Final[Mapping[str, Any]] = {
    "health": "SERVING",
    "services": sorted(SERVICES),
    "unary": {"outcome": "OUTCOME_APPLIED", "rank": "1", "score": "4200"},
    "batch": 1000,
    "page": [1000, "7", "1", "1", "1000"],
    "stream": {"acknowledged": 50, "taken": 1000, "status": "OK"},
    "watch": ["WATCH_EVENT_SNAPSHOT", "7", "9000", "1"],
    "cancelled": "CANCELLED",
    "deadline": ["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"],
    "refused": {
        "code": "INVALID_ARGUMENT",
        "message": "score: is required",
        "reason": "INVALID_INPUT",
        "domain": "standings",
        "field": "score",
    },
    "missing": {
        "code": "NOT_FOUND",
        "message": "no board of that name",
        "reason": "BOARD_NOT_FOUND",
        "domain": "standings",
    },
    "gzip": 1000,
    "too_large": "RESOURCE_EXHAUSTED",
    "unknown": "UNIMPLEMENTED",
    "concurrent": 100,
    "reconnecting": [],
}


@pytest.fixture
async def server(
    transport: Transport, database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path
) -> AsyncIterator[ServerProcess]:
    """A server that logs every call."""
    await empty(redis_cluster)
    settings = settings_for(database, redis_cluster)
    log = {"STANDINGS_LOG_LEVEL": "DEBUG"}
    async with server_process(settings, tmp_path / "state", **ONE[transport], **log) as server:
        yield server


@pytest.fixture
async def ageing(
    server: ServerProcess,
    transport: Transport,
    database: str,
    redis_cluster: EmbeddedRedisCluster,
    tmp_path: Path,
) -> AsyncIterator[ServerProcess]:
    """One beside it whose connections do not last.

    Not for every call: the end of the last one ends the connection that is too old. Of a message
    that is refused while it is on its way the client then hears nothing (seen of grpcio with
    4 MiB, one call in five).
    """
    settings = settings_for(database, redis_cluster)
    age = {"STANDINGS_SERVER_CONNECTION_AGE_MAX_S": "1"}
    async with server_process(settings, tmp_path / "ageing", **ONE[transport], **age) as another:
        yield another


@pytest.fixture(scope="session")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All services that a client calls, each file behind those that it needs."""
    found: dict[str, FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        for needed in file.dependencies:
            add(needed)
        if file.name not in found:
            found[file.name] = FileDescriptorProto()
            file.CopyToProto(found[file.name])

    for module in (
        *(ranking_service_pb2, board_service_pb2, health_pb2, reflection_pb2),
        error_details_pb2,
    ):
        add(module.DESCRIPTOR)
    path = tmp_path_factory.mktemp("descriptors") / "services.binpb"
    path.write_bytes(FileDescriptorSet(file=found.values()).SerializeToString())
    return path


@pytest.fixture(scope="session")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """The command of the client in Go, built from the versions that go.sum holds."""
    program = tmp_path_factory.mktemp("go") / "client"
    _build(CLIENTS / "go", "go", "build", "-mod=readonly", "-o", str(program), ".")
    return (str(program),)


@pytest.fixture(scope="session")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[str]]:
    """The command of the client in JavaScript, beside the packages that its lock file holds."""
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(CLIENTS / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    arguments = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    _build(folder, "npm", *arguments)
    yield ("node", str(folder / "client.mjs"))
    shutil.rmtree(folder)


def _build(folder: Path, tool: str, *arguments: str) -> None:
    """Skips where the tool is missing or the packages cannot be fetched."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run(
        [tool, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
        env={**os.environ, "GOFLAGS": "-buildvcs=false"},
    )
    if done.returncode == 0:
        return
    told = done.stderr.lower()
    if any(word in told for word in _UNREACHABLE):
        pytest.skip(f"{tool} cannot fetch what the client needs: {told.strip()[-200:]}")
    pytest.fail(done.stderr)


_UNREACHABLE: Final = (
    *("dial tcp", "no such host", "i/o timeout", "toolchain not available", "proxyconnect"),
    *("enotfound", "econnrefused", "etimedout", "eai_again", "econnreset", "enetunreach"),
)
"""How go and npm say that there is no registry."""


async def _sees(command: Sequence[str], *arguments: object) -> Mapping[str, Any]:
    """What a client saw."""
    seen: Mapping[str, Any] = json.loads(await _run(*command, *map(str, arguments)))
    return seen


async def _run(*command: str) -> str:
    done = await _done(*command)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def _done(*command: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=RUN_S, check=False
    )


async def _check(name: str, seen: Mapping[str, Any], server: ServerProcess) -> None:
    assert {**seen, "services": sorted(seen["services"])} == _DUE
    # Metadata came through; and whoever gave up is known to the server to have gone.
    await server.line("call", request_id=f"{name}-unary")
    await server.line("cancelled call", request_id=f"{name}-cancelled")
    async with server.logged:
        assert any(line.get("request_id") == f"{name}-deadline" for line in server.lines)


async def test_go(
    server: ServerProcess, ageing: ServerProcess, descriptors: Path, go_client: Sequence[str]
) -> None:
    """google.golang.org/grpc: every kind of call, every kind of end."""
    seen = await _sees(go_client, server.address, ageing.address, descriptors)
    await _check("go", seen, server)


async def test_node(
    server: ServerProcess, ageing: ServerProcess, descriptors: Path, node_client: Sequence[str]
) -> None:
    """@grpc/grpc-js: the same."""
    seen = await _sees(node_client, server.address, ageing.address, descriptors)
    await _check("node", seen, server)


async def test_buf_curl(server: ServerProcess) -> None:
    """Knows nothing of the services but what reflection tells."""
    told = await _run(*_curl(server, "--list-methods"))
    assert "standings.v1.RankingService/StreamSubmitScores" in told.split()

    board = '{"board": {"boardId": "curl"}}'
    await _run(*_curl(server, "standings.v1.BoardService/CreateBoard", "-d", board))
    messages = "\n".join(
        json.dumps({"sequence": n, "submissions": [{"boardId": "curl", "userId": n, "score": n}]})
        for n in range(1, 21)
    )
    told = await _run(
        *_curl(server, "standings.v1.RankingService/StreamSubmitScores", "-d", messages)
    )
    assert told.count('"consistencyToken"') >= 20
    told = await _run(
        *_curl(server, "standings.v1.RankingService/ListEntries", "-d", '{"boardId": "curl"}')
    )
    assert [entry["userId"] for entry in json.loads(told)["entries"]] == [
        str(user) for user in range(20, 10, -1)
    ]

    nothing = _curl(server, "standings.v1.BoardService/GetBoard", "-d", '{"boardId": "none"}')
    told = (await _done(*nothing)).stderr
    error = json.loads(told)
    (detail,) = error["details"]
    info = error_details_pb2.ErrorInfo.FromString(b64decode(detail["value"] + "=="))
    assert (error["code"], info.reason) == ("not_found", "BOARD_NOT_FOUND")


def _curl(server: ServerProcess, what: str, *arguments: str) -> Sequence[str]:
    way = ("--protocol", "grpc", "--http2-prior-knowledge")
    if what.startswith("--"):
        return (str(BUF), "curl", *way, what, f"http://{server.address}")
    return (str(BUF), "curl", *way, *arguments, f"http://{server.address}/{what}")
