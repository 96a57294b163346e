"""The clients and the operators' commands against a server that asks who calls."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.server_settings import Transport
from standings_client import (
    AsyncClient,
    Board,
    BoardNotFound,
    Client,
    ClientWritesRefused,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    tls_credentials,
)
from tests.fixtures.authority import Pair
from tests.fixtures.secured import Secured, secured


@pytest.fixture
async def running(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path
) -> AsyncIterator[Secured]:
    """A server whose callers have certificates or tokens, and two boards of a game."""
    async with secured(
        tmp_path, database, redis_cluster, Transport.GRPCIO, certificates=True, tokens=True
    ) as running:
        await running.server.line("worker ready")
        async with AsyncClient(
            running.server.address, credentials=_shown(running, "game-server/arena/eu1")
        ) as client:
            await client.boards.create(Board(board_id="arena.open", client_writes=True))
            await client.boards.create(Board(board_id="arena.closed"))
        yield running


async def test_a_game_server_with_a_certificate(running: Secured) -> None:
    """Both clients write and read on boards of their game."""
    credentials = _shown(running, "game-server/arena/eu1")

    def in_a_thread() -> int:
        with Client(running.server.address, credentials=credentials, timeout_s=20) as client:
            client.submit_score("arena.open", 7, 700)
            with pytest.raises(BoardNotFound):
                client.submit_score("other.open", 7, 700)
            return client.get_entry("arena.open", 7).entry.score

    assert await asyncio.to_thread(in_a_thread) == 700
    async with AsyncClient(running.server.address, credentials=credentials, timeout_s=20) as client:
        async with client.stream_submitter() as submitter:
            await submitter.submit("arena.open", 7, 800)
        assert (await client.get_entry("arena.open", 7)).entry.score == 800


async def test_a_player_with_a_token(running: Secured) -> None:
    """The token of the moment goes with every call; none that holds is told as that."""
    tokens = [running.issuer.token("client", sub="7")]
    credentials = tls_credentials(running.directory / "ca.pem")
    async with AsyncClient(
        running.by_token, credentials=credentials, token=lambda: tokens[0], timeout_s=20
    ) as client:
        await client.submit_score("arena.open", 7, 70)
        with pytest.raises(PermissionDenied):
            await client.submit_score("arena.open", 8, 70)
        with pytest.raises(ClientWritesRefused):
            await client.submit_score("arena.closed", 7, 70)
        tokens[0] = "stale"
        with pytest.raises(Unauthenticated):
            await client.submit_score("arena.open", 7, 71)
        tokens[0] = running.issuer.token("client", sub="8")
        await client.submit_score("arena.open", 8, 80)
        async for update in client.watch_entries("arena.open", top_count=2):
            assert [entry.score for entry in update.changed] == [80, 70]
            break


async def test_a_token_that_cannot_be_got_fails_the_call(running: Secured) -> None:
    """What the callable raises is the call's failure, and ends within its time."""

    def broken() -> str:
        raise RuntimeError("no token today")

    credentials = tls_credentials(running.directory / "ca.pem")
    async with AsyncClient(
        running.by_token, credentials=credentials, token=broken, timeout_s=1
    ) as client:
        with pytest.raises(Unavailable):
            await client.get_entry("arena.open", 7)


def test_a_token_is_not_sent_without_tls() -> None:
    """Who hears it may use it."""
    with pytest.raises(ValueError, match="TLS"):
        Client("127.0.0.1:1", token=lambda: "secret")


def test_half_a_pair_is_none(tmp_path: Path) -> None:
    """A certificate without its key is told before anything is read."""
    with pytest.raises(ValueError, match="need each other"):
        tls_credentials(tmp_path / "ca.pem", cert_file="cert.pem")


@pytest.mark.parametrize("name", ["STANDINGS_SERVER_ADDRESS", "STANDINGS_SERVER_ADMIN_ADDRESS"])
async def test_a_port_for_others_without_tls_stops_the_start(name: str) -> None:
    """Before anything is opened, with the variable's name and the way out."""
    code, told = await _standings({name: "0.0.0.0:0"}, "127.0.0.1:0", "serve")

    assert code == 1
    assert name in told
    assert "--insecure" in told


async def test_operators_commands_with_a_certificate(running: Secured) -> None:
    """Health, breakers and a lever, as whom the certificate names."""
    _leave(running, running.caller("sre/alice"))
    directory = running.directory
    variables = {
        "STANDINGS_CLIENT_CA_FILE": str(directory / "ca.pem"),
        "STANDINGS_CLIENT_CERT_FILE": str(directory / "caller.pem"),
        "STANDINGS_CLIENT_KEY_FILE": str(directory / "caller.key"),
        "STANDINGS_CLIENT_SERVER_NAME": "localhost",
    }
    server = running.server
    address = ("--address", server.admin_address)

    assert await _standings(variables, server.address, "health") == (0, "SERVING")
    set_ = ("set", "redis/*", "auto", "--reason", "asked by a test")
    code, _ = await _standings(variables, server.address, "breakers", *set_, *address)
    assert code == 0
    line = await server.line("an action was recorded", actor="sre/alice")
    assert line["audit_method"].endswith("SetBreaker")
    code, told = await _standings({}, server.address, "breakers", "--once", *address)
    assert (code, "no answer" in told) == (1, True)


async def test_operators_commands_with_a_token(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path
) -> None:
    """A token out of a file, good for one act; another role is refused in a sentence."""
    async with secured(
        tmp_path, database, redis_cluster, Transport.GRPCIO, certificates=False, tokens=True
    ) as running:
        server = running.server
        (tmp_path / "ca.pem").write_bytes(running.authority.pem)
        (tmp_path / "token").write_text(running.issuer.token("sre") + "\n")
        variables = {
            "STANDINGS_CLIENT_CA_FILE": str(tmp_path / "ca.pem"),
            "STANDINGS_CLIENT_TOKEN_FILE": str(tmp_path / "token"),
        }
        address = ("--address", server.admin_address)
        set_ = ("set", "redis/*", "auto", "--reason", "asked by a test", *address)
        assert (await _standings(variables, server.address, "breakers", *set_))[0] == 0
        assert (await _standings(variables, server.address, "breakers", *set_))[0] == 1
        (tmp_path / "token").write_text(running.issuer.token("internal"))
        code, told = await _standings(variables, server.address, "shards", "--once", *address)

    assert (code, told) == (1, "the caller's roles do not permit this method")


def _shown(running: Secured, path: str) -> object:
    _leave(running, running.caller(path))
    directory = running.directory
    return tls_credentials(
        directory / "ca.pem",
        cert_file=directory / "caller.pem",
        key_file=str(directory / "caller.key"),
    )


def _leave(running: Secured, pair: Pair) -> None:
    (running.directory / "caller.pem").write_bytes(pair.chain)
    (running.directory / "caller.key").write_bytes(pair.key)


async def _standings(variables: dict[str, str], address: str, *arguments: str) -> tuple[int, str]:
    inherited = {name: text for name, text in os.environ.items() if "STANDINGS" not in name}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", *arguments),
        env={**inherited, "STANDINGS_SERVER_ADDRESS": address, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, told.decode().strip()
