"""Callers who are not who they say, over TLS on a real server; and certificates that are renewed
while it serves.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2 as health  # type: ignore[import-untyped]
from grpc_health.v1.health_pb2_grpc import HealthStub

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.server_settings import Transport
from server.health_probe import ask_health
from standings.v1 import admin_service_pb2 as admin
from standings.v1 import board_service_pb2 as boards
from standings.v1.admin_service_pb2_grpc import AdminServiceStub
from standings.v1.board_service_pb2_grpc import BoardServiceStub
from tests.fixtures.authority import Authority, Issuer, Pair, write_keys, write_pair
from tests.fixtures.processes import time_until
from tests.fixtures.secured import Secured, secured

pytestmark = pytest.mark.both_transports

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
CALLERS = 8
"""Each on connections of its own, one after the other."""


@pytest.fixture
async def running(
    database: str, redis_cluster: EmbeddedRedisCluster, transport: Transport, tmp_path: Path
) -> AsyncIterator[Secured]:
    """A server whose callers have certificates or tokens."""
    async with secured(
        tmp_path, database, redis_cluster, transport, certificates=True, tokens=True
    ) as running:
        await running.server.line("worker ready")
        yield running


async def test_without_a_certificate_that_holds_there_is_no_connection(running: Secured) -> None:
    """None, an expired one and one of another authority: the operators' listener does not speak."""
    address = running.server.admin_address
    uri = "spiffe://standings/sre/alice"
    expired = running.authority.caller(uri, valid_for=-timedelta(hours=1))
    of_others = Authority("another authority").caller(uri)
    for pair in (None, expired, of_others):
        code, _ = await _list_breakers(running.channel(address, pair))
        assert code is grpc.StatusCode.UNAVAILABLE
    code, _ = await _list_breakers(running.channel(address, running.authority.caller(uri)))

    assert code is grpc.StatusCode.OK


async def test_a_certificate_of_others_names_nobody_for_games_either(running: Secured) -> None:
    """Also where callers may come without one."""
    uri = "spiffe://standings/game-server/eu1"
    for pair in (
        running.authority.caller(uri, valid_for=-timedelta(hours=1)),
        Authority("another authority").caller(uri),
    ):
        code = await _list_boards(running.channel(running.server.address, pair))
        assert code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("uris", "names"),
    [
        ((), ("standings",)),
        ((), ("spiffe://standings/sre/alice",)),
        (("spiffe://another/sre/alice",), ()),
        (("spiffe://standings/client/7",), ()),
        (("spiffe://standings/game-server/x;URI=spiffe://standings/sre/alice",), ()),
        (("spiffe://standings/game-server/x,URI=spiffe://standings/sre/alice",), ()),
    ],
)
async def test_a_certificate_without_a_name_of_ours_names_nobody(
    running: Secured, uris: tuple[str, ...], names: tuple[str, ...]
) -> None:
    """A host that is called like a URI is none, nor is one that has another in it."""
    pair = running.authority.caller(*uris, names=names)
    code, _ = await _list_breakers(running.channel(running.server.admin_address, pair))

    assert code is UNAUTHENTICATED
    assert await _list_boards(running.channel(running.server.address, pair)) is UNAUTHENTICATED


async def test_a_game_server_sets_no_breaker(running: Secured) -> None:
    """It is refused, and the log has who it was."""
    channel = running.channel(running.server.admin_address, running.caller("game-server/eu1"))
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await AdminServiceStub(channel).SetBreaker(_setting(), timeout=20)
    line = await running.server.line("failed call", code="PERMISSION_DENIED")

    assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert line["caller"] == "game-server/eu1"
    assert line["method"].endswith("SetBreaker")


async def test_who_was_refused_is_in_the_audit(running: Secured) -> None:
    """Once, however often it is tried, and with nothing that was done."""
    address = running.server.admin_address
    channel = running.channel(address, running.caller("game-server/eu1"))
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError):
            await AdminServiceStub(channel).SetBreaker(_setting(), timeout=20)
    (file,) = (running.directory / "state/audit").glob("*.jsonl")
    begun, ended = map(json.loads, file.read_bytes().splitlines())

    assert begun["actor"] == "game-server/eu1"
    assert begun["method"] == "standings.v1.AdminService/SetBreaker"
    assert (ended["action"], ended["status"]) == (begun["sequence"], "PERMISSION_DENIED")
    assert ended["result"] == {"done": False, "unrecorded_before": 0}


async def test_a_probe_needs_no_certificate(running: Secured) -> None:
    """`standings health` asks on loopback, plainly, as a container's probe does; nothing else is
    told there, and not to others what only some may know.
    """
    server = running.server
    await server.line("worker ready")
    probed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "health", "--timeout-s", "10"),
        env={**os.environ, "STANDINGS_SERVER_HEALTH_ADDRESS": server.health_address},
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await asyncio.wait_for(probed.communicate(), 30)
    assert (probed.returncode, told.decode().strip()) == (0, "SERVING")

    async with grpc.aio.insecure_channel(server.health_address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await HealthStub(channel).List(health.HealthListRequest(), timeout=20)
        assert refusal.value.code() is UNAUTHENTICATED
        code = await _list_boards(channel)
    assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_a_probe_sees_the_end_of_a_server(running: Secured) -> None:
    """NOT_SERVING while it drains, then nobody is there."""
    server = running.server
    async with grpc.aio.insecure_channel(server.health_address) as channel:
        watch = HealthStub(channel).Watch(health.HealthCheckRequest(), timeout=30)
        seen = [(await watch.read()).status]
        server.process.terminate()
        seen.append((await watch.read()).status)
    await asyncio.wait_for(server.process.wait(), 30)

    assert [health.HealthCheckResponse.ServingStatus.Name(status) for status in seen] == [
        *("SERVING", "NOT_SERVING"),
    ]
    assert ask_health(server.health_address, timeout_s=5) == "UNAVAILABLE"


_CLAIMED = (
    ("role", "sre"),
    ("x-role", "sre"),
    ("x-forwarded-client-cert", f"Hash={'0' * 64};URI=spiffe://standings/sre/alice"),
    ("x-spiffe-id", "spiffe://standings/sre/alice"),
)


async def test_what_metadata_say_is_nobodys_role(running: Secured) -> None:
    """Neither with a certificate of another role nor without any evidence."""
    server = running.server
    other = running.channel(server.admin_address, running.caller("game-server/eu1"))
    code, _ = await _list_breakers(other, _CLAIMED)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    reader = running.channel(server.address, running.caller("internal/web"))
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await BoardServiceStub(reader).DeleteBoard(
            boards.DeleteBoardRequest(board_id="any"), metadata=_CLAIMED, timeout=20
        )
    assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert await _list_boards(running.channel(running.by_token), _CLAIMED) is UNAUTHENTICATED


async def test_a_certificate_outweighs_a_token(running: Secured) -> None:
    """Who has a certificate is whom it names, whatever token comes along."""
    channel = running.channel(running.server.admin_address, running.caller("game-server/eu1"))
    code, _ = await _list_breakers(channel, _bearer(running.issuer.token("sre")))

    assert code is grpc.StatusCode.PERMISSION_DENIED


async def test_tokens_that_do_not_hold_are_refused_alike(running: Secured) -> None:
    """Unsigned, for somebody else, expired, of an unknown key: one answer for all."""
    issuer = running.issuer
    claims = issuer.claims("game-server")
    told = set()
    for token in (
        f"{_part({'alg': 'none', 'kid': 'one'})}.{_part(claims)}.",
        jwt.encode(claims, "x" * 32, "HS256", {"kid": "one"}),
        issuer.token("game-server", aud="another"),
        issuer.token("game-server", iat=1, exp=600),
        Issuer(kid="two").token("game-server"),
        Issuer().token("game-server"),
        "x" * 7000,
        "",
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await BoardServiceStub(running.channel(running.by_token)).ListBoards(
                boards.ListBoardsRequest(), metadata=_bearer(token), timeout=20
            )
        trailers = dict(refusal.value.trailing_metadata())
        told.add(
            (refusal.value.code(), refusal.value.details(), trailers["grpc-status-details-bin"])
        )

    assert {code for code, _, _ in told} == {UNAUTHENTICATED}
    assert len(told) == 1


async def test_the_keys_of_tokens_are_rotated(running: Secured) -> None:
    """A new issuer's key is taken from the file, and a bad file changes nothing."""
    channel, new = running.channel(running.by_token), Issuer(kid="two")
    keys = running.directory / "keys.json"
    write_keys(keys, running.issuer, new)
    await running.server.line("keys of tokens were read", keys=["one", "two"])
    assert await _list_boards(channel, _bearer(new.token("game-server"))) is grpc.StatusCode.OK
    keys.write_text("{")
    await running.server.line("keys of tokens cannot be read; those before stay")

    assert await _list_boards(channel, _bearer(new.token("game-server"))) is grpc.StatusCode.OK


async def test_certificates_are_renewed_under_load(running: Secured) -> None:
    """No call fails while the pair changes, again and again, and while a bad one is there."""
    load = _Load(running)
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(load.call())
        for turn in range(3):
            new = running.authority.server()
            write_pair(running.directory, new)
            await load.sees(new)
            await _grows(running, "TLS files were read", turn)
        (running.directory / "chain.pem").write_text("no certificate")
        await running.server.line("TLS files cannot be used; those before stay")
        await load.sees(new)
        failures = 'standings_identity_reload_failures_total{what="tls"}'
        metrics = await running.server.metrics_when(lambda told: told.get(failures, 0) >= 1)
        load.ending = True

    assert load.failures == []
    assert load.calls > 100
    assert metrics[failures] >= 1
    expires = x509.load_pem_x509_certificate(new.chain).not_valid_after_utc.timestamp()
    assert metrics["standings_tls_certificate_expire_timestamp_seconds"] == expires


async def test_the_authority_is_rotated(running: Secured) -> None:
    """Callers of a new authority are known once the bundle has it, and those of the old one are
    not when it is gone.
    """
    new = Authority("new authority")
    uri = "spiffe://standings/sre/alice"
    by_old, by_new = running.authority.caller(uri), new.caller(uri)
    address, bundle = running.server.admin_address, running.directory / "ca.pem"
    for pem, known, unknown in (
        (running.authority.pem, by_old, by_new),
        (new.pem + running.authority.pem, by_new, None),
        (new.pem, by_new, by_old),
    ):
        before = len(_lines(running, "TLS files were read"))
        if bundle.read_bytes() != pem:
            bundle.with_suffix(".new").write_bytes(pem)
            bundle.with_suffix(".new").replace(bundle)
            await _grows(running, "TLS files were read", before)
        code, _ = await _list_breakers(running.channel(address, known))
        assert code is grpc.StatusCode.OK
        if unknown is not None:
            code, _ = await _list_breakers(running.channel(address, unknown))
            assert code is grpc.StatusCode.UNAVAILABLE


async def test_an_operators_token_is_good_for_one_act(
    database: str, redis_cluster: EmbeddedRedisCluster, transport: Transport, tmp_path: Path
) -> None:
    """The second act with a token is refused, by every worker; what only asks is not an act."""
    async with secured(
        tmp_path,
        database,
        redis_cluster,
        transport,
        certificates=False,
        tokens=True,
        STANDINGS_SERVER_WORKERS="2",
    ) as running:
        token = _bearer(running.issuer.token("sre"))
        codes = []
        for _ in range(8):
            channel = running.channel(running.server.admin_address)
            try:
                await AdminServiceStub(channel).SetBreaker(_setting(), metadata=token, timeout=20)
                codes.append(grpc.StatusCode.OK)
            except grpc.aio.AioRpcError as error:
                codes.append(error.code())
            code, _ = await _list_breakers(channel, token)
            assert code is grpc.StatusCode.OK

    assert codes == [grpc.StatusCode.OK, *[UNAUTHENTICATED] * 7]


class _Load:
    """Callers that connect anew for every few calls."""

    def __init__(self, running: Secured) -> None:
        self._running = running
        self._pair = running.caller("internal/web")
        self.calls = 0
        self.failures: list[str] = []
        self.ending = False

    async def call(self) -> None:
        """One caller, until the end."""
        address = self._running.server.address
        while not self.ending:
            channel = self._running.channel(address, self._pair)
            for _ in range(3):
                code = await _list_boards(channel)
                self.calls += 1
                if code is not grpc.StatusCode.OK:
                    self.failures.append(code.name)
            await channel.close()
            self._running.others.remove(channel)

    async def sees(self, pair: Pair) -> None:
        """Returns when new connections are shown that certificate."""
        wanted = ssl.PEM_cert_to_DER_cert(pair.chain.decode())
        async with asyncio.timeout(30):
            while await self._shown() != wanted:
                await self._goes_on()

    async def _goes_on(self) -> None:
        end = self.calls + CALLERS
        await time_until(lambda: self.calls >= end)

    async def _shown(self) -> bytes | None:
        directory = self._running.directory
        (directory / "caller.pem").write_bytes(self._pair.chain + self._pair.key)
        context = ssl.create_default_context(cadata=self._running.authority.pem.decode())
        context.load_cert_chain(directory / "caller.pem")
        context.set_alpn_protocols(["h2"])
        host, port = self._running.server.address.split(":")
        _, writer = await asyncio.open_connection(
            host, int(port), ssl=context, server_hostname="localhost"
        )
        shown: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return shown


async def _grows(running: Secured, event: str, before: int) -> None:
    async with asyncio.timeout(30), running.server.logged:
        await running.server.logged.wait_for(lambda: len(_lines(running, event)) > before)


def _lines(running: Secured, event: str) -> list[object]:
    return [line for line in running.server.lines if line["event"] == event]


def _setting() -> admin.SetBreakerRequest:
    return admin.SetBreakerRequest(
        name="redis/*", mode=admin.BREAKER_MODE_AUTO, reason="asked by a test"
    )


async def _list_boards(
    channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ()
) -> grpc.StatusCode:
    try:
        await BoardServiceStub(channel).ListBoards(
            boards.ListBoardsRequest(), metadata=metadata, timeout=20
        )
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def _list_breakers(
    channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ()
) -> tuple[grpc.StatusCode, str]:
    try:
        await AdminServiceStub(channel).ListBreakers(
            admin.ListBreakersRequest(), metadata=metadata, timeout=20
        )
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
