"""The audit of a whole server: killed before an effect, on a full disk, and as operators see it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration

from bootstrap.audit_copies import walk_files
from bootstrap.audit_files import audit_files
from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.embedded.waiting import until
from core.verify_audit import Chain
from resilience.machine import FILE_NAME
from standings.v1 import admin_service_pb2 as pb
from standings.v1 import admin_service_pb2_grpc as admin_grpc
from standings_client import AsyncClient, Board, StandingsError
from tests.fixtures.processes import ServerProcess, kill_quietly, server_process
from tests.fixtures.redis import empty
from tests.fixtures.server import RunningServer, Serve, settings_for

REASON = "a drill of the evening"
HELD = ("postgres/write", "postgres/jobs", "redis/*")
"""What effects need, and what is read before a line is not."""
LEVERS = ("SetBreaker", "InjectFault", "ClearFaults")


@asynccontextmanager
async def operators(address: str) -> AsyncIterator[Any]:
    """The operators' side of a server."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield admin_grpc.AdminServiceStub(channel)


def chain_of(folder: Path) -> Chain:
    """The chain of a server's files, which has to hold."""
    (chain,) = walk_files([folder]).values()
    assert chain.whole
    return chain


def lines_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    """What the lines of a kind hold, in order."""
    lines = [
        json.loads(line)
        for path in audit_files(folder)
        for line in path.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    ]
    return [line for line in lines if line["kind"] == kind]


def word(method: str) -> str:
    """The last one of a method's name."""
    return method.rpartition("/")[2]


def undone(folder: Path) -> set[str]:
    """The methods of the actions that are not known to have been done."""
    chain_of(folder)
    done = {line["action"] for line in lines_of(folder, "outcome") if line["status"] == "OK"}
    actions = lines_of(folder, "action")
    return {word(line["method"]) for line in actions if line["sequence"] not in done}


@contextmanager
def held_levers(state: Path) -> Iterator[None]:
    """Nobody can write the machine's file."""
    descriptor = os.open(state / f"{FILE_NAME}.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


async def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """A command: exit code, output, complaints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cli", *arguments),
        env={**os.environ, "COLUMNS": "250", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaints = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, output.decode(), complaints.decode()


async def kill(server: ServerProcess) -> None:
    """SIGKILL to the supervisor and all workers."""
    kill_quietly(server.process.pid)
    for pid in server.workers().values():
        kill_quietly(pid)
    await server.process.wait()


async def test_a_line_outlives_a_kill_before_its_effect(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path
) -> None:
    """Every audited method is held up between its line and its effect, and all is killed: the
    lines are there and whole, nothing was done, and the next server goes on in the same chain. How
    CancelOperation comes after its line, tests/unit/server/test_audit.py shows.
    """
    await empty(redis_cluster)
    settings, state = settings_for(database, redis_cluster), tmp_path / "state"
    folder, one = state / "audit", {"STANDINGS_SERVER_WORKERS": "1"}
    async with (
        server_process(settings, state, **one) as server,
        operators(server.admin_address) as admin,
        AsyncClient(server.address, timeout_s=9) as client,
    ):
        await _prepare(client, admin)
        assert undone(folder) == set()
        with held_levers(state):
            calls = _writes(client)
            await _begun(folder, set(calls))
            # What operations need is only read.
            async with await psycopg.AsyncConnection.connect(database) as blocking:
                await blocking.execute("lock table boards in access exclusive mode")
                calls |= _operators_calls(admin)
                await _begun(folder, set(calls))
                await kill(server)
                results = await asyncio.gather(*calls.values(), return_exceptions=True)
        assert all(isinstance(result, Exception) for result in results), results

    before = chain_of(folder)
    async with (
        server_process(settings, state, **one) as server,
        operators(server.admin_address) as admin,
        AsyncClient(server.address, timeout_s=20) as client,
    ):
        await _nothing_was_done(client, admin)

        async def listed() -> bool:
            answer = await admin.ListAuditEvents(pb.ListAuditEventsRequest(page_size=1000))
            unknown = {word(event.method) for event in answer.events if event.status != "OK"}
            return answer.source == pb.AUDIT_SOURCE_DATABASE and unknown == set(calls)

        assert await until(listed, timeout_s=30)
    after = chain_of(folder)

    assert (after.name, after.first) == (before.name, 1)
    assert after.last > before.last
    # A lever that cannot be reached for a second may have been told so before the end.
    assert len(before.open_actions) >= len(calls) - len(LEVERS)
    assert undone(folder) == set(calls)


async def _prepare(client: AsyncClient, admin: Any) -> None:
    """A board with four entries, one of them hidden; then all that writes takes 10 s more."""
    await client.boards.create(Board(board_id="arena", title="Old"))
    for user in (1, 2, 3, 4):
        await client.submit_score("arena", user, user)
    await client.moderation.hide_user(4)
    for target in HELD:
        await admin.InjectFault(
            pb.InjectFaultRequest(
                target=target,
                kind=pb.FAULT_KIND_LATENCY,
                latency=Duration(seconds=10),
                ttl=Duration(seconds=600),
                reason=REASON,
            )
        )


def _writes(client: AsyncClient) -> dict[str, asyncio.Future[Any]]:
    """A call of each audited method whose effect is a write to PostgreSQL, begun."""
    calls = {
        "CreateBoard": client.boards.create(Board(board_id="new")),
        "UpdateBoard": client.boards.update(Board(board_id="arena", title="New"), fields=["title"]),
        "DeleteBoard": client.boards.delete("arena"),
        "DeleteEntry": client.delete_entry("arena", 1),
        "HideUser": client.moderation.hide_user(2),
        "DeleteUser": client.moderation.delete_user(3),
        "RestoreUser": client.moderation.restore_user(4),
    }
    return {name: asyncio.ensure_future(call) for name, call in calls.items()}


def _operators_calls(admin: Any) -> dict[str, asyncio.Future[Any]]:
    """Those that begin by reading the boards, and the levers."""
    calls = {
        "VerifyShards": pb.VerifyShardsRequest(repair=True),
        "RebuildShards": pb.RebuildShardsRequest(),
        "SetBreaker": pb.SetBreakerRequest(name="redis", mode=2, reason=REASON),
        "InjectFault": pb.InjectFaultRequest(target="*", kind=2, reason=REASON),
        "ClearFaults": pb.ClearFaultsRequest(),
    }
    return {
        name: asyncio.ensure_future(getattr(admin, name)(request))
        for name, request in calls.items()
    }


async def _nothing_was_done(client: AsyncClient, admin: Any) -> None:
    """Neither to levers and faults, nor to boards, entries and users."""
    faults = (await admin.ListFaults(pb.ListFaultsRequest())).faults
    breakers = (await admin.ListBreakers(pb.ListBreakersRequest())).breakers
    operations = (await admin.ListOperations(pb.ListOperationsRequest())).operations
    assert {fault.kind for fault in faults} == {pb.FAULT_KIND_LATENCY}
    assert {breaker.mode for breaker in breakers} == {pb.BREAKER_MODE_AUTO}
    assert list(operations) == []
    await admin.ClearFaults(pb.ClearFaultsRequest())
    boards = [(board.board_id, board.title) async for board in client.boards.iter()]
    assert boards == [("arena", "Old")]

    async def entries() -> bool:
        found = (await client.list_entries("arena")).entries
        return [entry.user_id for entry in found] == [3, 2, 1]

    assert await until(entries, timeout_s=30)


async def _begun(folder: Path, methods: set[str]) -> None:
    async def there() -> bool:
        return undone(folder) == methods

    assert await until(there, timeout_s=8), undone(folder)


async def test_a_full_disk_refuses_operators_alone(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path
) -> None:
    """No file of the worker grows any more: what has to be recorded is refused and not done, games
    go on, and once there is room so does the rest, in the same chain.
    """
    await empty(redis_cluster)
    settings, state = settings_for(database, redis_cluster), tmp_path / "state"
    async with (
        server_process(settings, state, STANDINGS_SERVER_WORKERS="1") as server,
        operators(server.admin_address) as admin,
        AsyncClient(server.address, timeout_s=20) as client,
    ):
        await client.boards.create(Board(board_id="arena"))
        (worker,) = server.workers().values()
        (path,) = audit_files(state / "audit")
        size = path.stat().st_size
        _, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (size + 50, hard))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await admin.SetBreaker(pb.SetBreakerRequest(name="redis", mode=2, reason=REASON))
        for refusal in (
            client.moderation.hide_user(1, timeout_s=1),
            client.boards.delete("arena", timeout_s=1),
        ):
            with pytest.raises(StandingsError):
                await refusal
        for user in range(1, 101):
            await client.submit_score("arena", user, user)
        served = await client.list_entries("arena", page_size=1000)
        breakers = (await admin.ListBreakers(pb.ListBreakersRequest())).breakers

        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "AUDIT_UNAVAILABLE" in str(refused.value.trailing_metadata())
        assert len(served.entries) == 100
        assert {breaker.mode for breaker in breakers} == {pb.BREAKER_MODE_AUTO}
        assert path.stat().st_size == size
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (hard, hard))
        assert (await client.moderation.hide_user(1)).changed
        assert server.workers() == {0: worker}
    chain = chain_of(state / "audit")

    assert (chain.last, chain.open_actions) == (4, set())


async def test_workers_write_one_chain(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path
) -> None:
    """Whichever is told what, while one after the other is killed."""
    await empty(redis_cluster)
    settings, state = settings_for(database, redis_cluster), tmp_path / "state"
    async with server_process(settings, state, STANDINGS_SERVER_WORKERS="2") as server:

        async def act(number: int) -> int:
            """Pulls a lever on a connection of its own; how often until it was done."""
            mode = 2 + number % 2
            request = pb.SetBreakerRequest(name="redis/shard-07", mode=mode, reason=REASON)
            for tries in range(1, 50):
                options = [("grpc.use_local_subchannel_pool", 1)]
                async with grpc.aio.insecure_channel(server.admin_address, options) as channel:
                    try:
                        stub = admin_grpc.AdminServiceStub(channel)
                        await stub.SetBreaker(request, timeout=10, wait_for_ready=True)
                    except grpc.aio.AioRpcError:
                        continue
                return tries
            raise AssertionError

        acting = [asyncio.ensure_future(act(number)) for number in range(40)]
        for slot, pid in server.workers().items():
            await asyncio.wait(acting, return_when=asyncio.FIRST_COMPLETED)
            os.kill(pid, signal.SIGKILL)
            await server.line("worker died", slot=slot, pid=pid)
        tries = sum(await asyncio.gather(*acting))
    chain, actions = chain_of(state / "audit"), lines_of(state / "audit", "action")

    assert 40 <= len(actions) <= tries
    assert len(actions) - len(chain.open_actions) >= 40


async def test_what_came_last_is_shipped_at_the_end(
    database: str, redis_cluster: EmbeddedRedisCluster, serve: Serve
) -> None:
    """A server that is stopped leaves nothing on its disk alone."""
    await empty(redis_cluster)
    settings = settings_for(database, redis_cluster)
    async with (
        serve(settings, with_jobs=False) as addresses,
        operators(addresses.admin) as admin,
    ):
        for _ in range(3):
            await admin.SetBreaker(
                pb.SetBreakerRequest(name="redis/shard-07", mode=3, reason=REASON)
            )
    async with await psycopg.AsyncConnection.connect(database) as connection:
        cursor = await connection.execute("select count(*) from audit_lines")

        assert await cursor.fetchone() == (6,)


@pytest.fixture
async def acted(standings: RunningServer) -> tuple[RunningServer, Path, dict[str, str]]:
    """A server on which some things were done that have come to PostgreSQL; where its files are,
    and what commands need to find it.
    """
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    await client.moderation.hide_user(7, reason="[red]cheats")
    await client.moderation.restore_user(7)
    folder = standings.settings.audit_directory
    environment = {
        name: value
        for name, value in standings.settings.environment().items()
        if name.startswith("STANDINGS_")
    }
    environment["STANDINGS_SERVER_ADMIN_ADDRESS"] = standings.admin_address
    async with await psycopg.AsyncConnection.connect(
        environment["STANDINGS_POSTGRES_DSN"], autocommit=True
    ) as connection:

        async def shipped() -> bool:
            cursor = await connection.execute("select count(*) from audit_lines")
            return await cursor.fetchone() == (6,)

        assert await until(shipped, timeout_s=20)
    return standings, folder, environment


async def test_operators_see_who_did_what(
    acted: tuple[RunningServer, Path, dict[str, str]],
) -> None:
    """In a table, filtered, or as JSON lines."""
    _, _, environment = acted
    code, output, _ = await run("audit", "list", **environment)
    lines = [line for line in output.splitlines() if "127.0.0.1" in line]
    assert (code, len(lines)) == (0, 3)
    assert [word in line for word, line in zip(("Restore", "Hide", "Create"), lines, strict=True)]
    assert "[red]cheats" in lines[1]

    code, output, _ = await run(
        *("audit", "list", "--json", "--method", "HideUser", "--target", "user/7"), **environment
    )
    (row,) = map(json.loads, output.splitlines())
    assert (code, row["status"], row["reason"]) == (0, "OK", "[red]cheats")
    assert (await run("audit", "list", "--until", "2020-01-01", "--json", **environment))[1] == ""


async def test_operators_verify_what_was_recorded(
    acted: tuple[RunningServer, Path, dict[str, str]], tmp_path: Path
) -> None:
    """0 where all holds; 1 and the link where it does not, the cut end by the database alone; 3
    where there is nothing.
    """
    _, folder, environment = acted
    code, output, _ = await run("audit", "verify", "--database", **environment)
    assert (code, output.count("lines 1 to 6, whole")) == (0, 2)

    copy = tmp_path / "copy.jsonl"
    shutil.copy(audit_files(folder)[0], copy)
    whole = copy.read_bytes()
    lines = whole.splitlines(keepends=True)
    for tampered, words in (
        (whole.replace(b"cheats", b"nought"), "copy.jsonl:3: line 3 of chain"),
        (b"".join([*lines[:2], *lines[3:]]), "line 3 of chain"),
        (b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]), "stands in another place"),
    ):
        copy.write_bytes(tampered)
        code, _, complaints = await run("audit", "verify", str(copy))
        assert (code, words in complaints) == (1, True), complaints

    copy.write_bytes(b"".join(lines[:4]))
    assert (await run("audit", "verify", str(copy)))[0] == 0
    code, _, complaints = await run("audit", "verify", str(copy), "--database", **environment)
    assert (code, "line 5 of chain" in complaints) == (1, True)
    assert "PostgreSQL has it" in complaints

    for arguments in (("nowhere",), (str(tmp_path / "copy"), "--database")):
        code, _, complaints = await run("audit", "verify", *arguments)
        assert (code, "Traceback" in complaints) == (3, False), complaints
