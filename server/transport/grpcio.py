"""Bytes over gRPC by grpcio's asyncio server. Deadlines in, status out; no rule lives here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, NoReturn, TypeAlias

import grpc
import grpc.aio

from bootstrap.server_settings import ServerSettings
from server.errors import NotRead
from server.identity.tls_files import TlsFiles, TlsMaterial
from server.rpc.call import CallContext
from server.rpc.chain import Route, Stream, Unary, UnaryRoute
from server.rpc.overdue import Overdue
from server.rpc.status import DETAILS_TRAILER, RpcFailure, failure_of

_METADATA_SOFT_BYTES: Final = 8 * 1024
"""Above it calls are refused more and more often, above the hard limit always."""
_METADATA_HARD_BYTES: Final = 16 * 1024
_PING_INTERVAL_MIN_MS: Final = 10_000
"""Clients may ask this often whether we are there; gRPC's own 300 s punishes usual settings."""
_KEEPALIVE_MS: Final = 60_000
"""How long a silent connection may be dead before we ask; gRPC's own default is 2 hours."""
_ACCEPTORS: Final = 8
"""Servers that share an address, each with some of its connections. One of them takes in one call a
turn of the loop: on a busy loop calls then wait outside that could share a flush or a node call."""
_QUIET_S: Final = 0.025
_QUIET_LOOKS_MAX: Final = 10
"""How long a listener that ends waits for a moment without calls. Answers are late by that."""

_Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]
_CallOf: TypeAlias = Callable[[_Context], CallContext]


class GrpcioListener:
    """One address that serves the routes of a chain."""

    def __init__(
        self, routes: Mapping[str, Route], settings: ServerSettings, tls: TlsFiles | None = None
    ) -> None:
        self._tls = tls
        self._exit = _Exit()
        call_of = _call if tls is None else _call_with_evidence
        handlers = _Routes(routes, _Sending(settings.send_timeout_s), self._exit, call_of)
        self._servers = [
            grpc.aio.server(
                handlers=(handlers,),
                options=_options(settings),
                compression=grpc.Compression.NoCompression,
            )
            for _ in range(_ACCEPTORS if settings.reuse_port else 1)
        ]

    async def start(self, address: str, token_address: str | None = None) -> int:
        """Listens, and returns the port. At `token_address`, if there is one, callers are not asked
        for a certificate. Raises RuntimeError when an address is taken.
        """
        port = 0
        for server in self._servers:
            port = self._bind(server, address)
            address = f"{address.rpartition(':')[0]}:{port}"
            if token_address is not None:
                token_port = self._bind(server, token_address, asks=False)
                token_address = f"{token_address.rpartition(':')[0]}:{token_port}"
        for server in self._servers:
            await server.start()
        return port

    def _bind(self, server: grpc.aio.Server, address: str, *, asks: bool = True) -> int:
        if self._tls is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials_of(self._tls, asks=asks))

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, and cancels those that still run after `grace_s`."""
        await self._exit.quiet()
        stopping = [asyncio.ensure_future(server.stop(grace_s)) for server in self._servers]
        # They tell the connections in their first step; only then may answers follow.
        await asyncio.sleep(0)
        self._exit.open()
        await asyncio.gather(*stopping)


class _Exit:
    """Holds answers back for the moment in which a listener ends.

    grpcio cancels calls that have arrived and that its asyncio server has not taken in, which it
    does one a turn of the loop: at any time a few of a busy listener's. Who waits for an answer
    sends nothing, so with the answers held back these run out; the callers then learn that the
    connection ends before they can send more on it.
    """

    def __init__(self) -> None:
        self.held: asyncio.Event | None = None
        """Set when answers may go; None as long as nobody has to wait."""
        self.taken = 0
        """Unary calls so far."""

    async def quiet(self) -> None:
        """Holds answers back, until no call came for a while or the time for that is over."""
        if self.held is None:
            self.held = asyncio.Event()
        last = -1
        for _ in range(_QUIET_LOOKS_MAX):
            if self.taken == last:
                return
            last = self.taken
            await asyncio.sleep(_QUIET_S)

    def open(self) -> None:
        """Lets all answers go."""
        if self.held is not None:
            self.held.set()


class _Routes(grpc.GenericRpcHandler):
    """Finds the handler of a path; grpcio itself answers UNIMPLEMENTED for the others."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        sending: _Sending,
        exit_: _Exit,
        call_of: _CallOf,
    ) -> None:
        self._handlers = {
            path: _handler(route, sending, exit_, call_of) for path, route in routes.items()
        }

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        return self._handlers.get(handler_call_details.method)


def _handler(
    route: Route, sending: _Sending, exit_: _Exit, call_of: _CallOf
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """Without serializers, grpcio hands over bytes as they came."""
    if isinstance(route, UnaryRoute):
        return grpc.unary_unary_rpc_method_handler(_unary(route.handler, exit_, call_of))
    if route.method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(_stream(route.handler, sending, call_of))
    return grpc.unary_stream_rpc_method_handler(_server_stream(route.handler, sending, call_of))


def _unary(
    handler: Unary, exit_: _Exit, call_of: _CallOf
) -> Callable[[bytes, _Context], Awaitable[bytes]]:
    async def serve(request: bytes, context: _Context) -> bytes:
        exit_.taken += 1
        answer = await handler(request, call_of(context))
        if exit_.held is not None:
            await exit_.held.wait()
        if isinstance(answer, RpcFailure):
            await _abort(context, answer)
        return answer

    return serve


class _Sending:
    """Hands messages to the caller's connection, for a limited time each."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._overdue = Overdue()

    async def write(self, context: _Context, message: bytes) -> bool:
        """Waits while the caller does not read: this is the back-pressure. False when the time
        for that is spent; then only the status may follow.
        """
        limit = self._overdue.enter(time.monotonic() + self._timeout_s)
        try:
            await context.write(message)
        except asyncio.CancelledError:
            if limit.caused():
                return False
            raise
        finally:
            self._overdue.leave(limit)
        return True


def _stream(
    handler: Stream, sending: _Sending, call_of: _CallOf
) -> Callable[[AsyncIterator[bytes], _Context], Awaitable[None]]:
    # A coroutine that writes, not an async generator: grpcio leaves a cancelled generator to the
    # garbage collector, and what it holds would be let go in another task at another time.
    async def serve(requests: AsyncIterator[bytes], context: _Context) -> None:
        failure = None
        call = call_of(context)
        async with aclosing(handler(requests, call)) as answers:
            async for answer in answers:
                if isinstance(answer, RpcFailure):
                    failure = answer
                elif not await sending.write(context, answer):
                    failure = failure_of(NotRead(), call.request_id)
                    break
        if failure is not None:
            # Waits behind what was not read, until the caller reads or the connection ends. By
            # now only the transport holds anything for this call.
            await _abort(context, failure)

    return serve


def _server_stream(
    handler: Stream, sending: _Sending, call_of: _CallOf
) -> Callable[[bytes, _Context], Awaitable[None]]:
    serve_stream = _stream(handler, sending, call_of)

    async def serve(request: bytes, context: _Context) -> None:
        await serve_stream(_One(request), context)

    return serve


class _One:
    """A stream of one request; an async generator would want to be closed."""

    def __init__(self, request: bytes) -> None:
        self._requests = iter((request,))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for request in self._requests:
            return request
        raise StopAsyncIteration


def _call(context: _Context) -> CallContext:
    left_s: float | None = context.time_remaining()
    return CallContext(
        deadline_s=None if left_s is None else time.monotonic() + left_s,
        metadata=dict(context.invocation_metadata() or ()),
        peer_of=context.peer,
    )


def _call_with_evidence(context: _Context) -> CallContext:
    call = _call(context)
    # By its kind: what stands in a certificate as the name of a host is not a URI.
    uris = context.auth_context().get("peer_uri")
    if uris:
        call.evidence = tuple(uri.decode("utf-8", "replace") for uri in uris)
    return call


def credentials_of(tls: TlsFiles, *, asks: bool = True) -> grpc.ServerCredentials:
    """What a port is secured with: for each new connection, what the files say then. `asks`:
    whether callers need a certificate, where there is somebody to vouch for them.
    """
    asks = asks and tls.material.client_ca is not None
    given = tls.version

    def newer() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        if given == tls.version:
            return None
        given = tls.version
        return _configuration(tls.material, asks=asks)

    # None, which the type stubs forget, is for no change.
    return grpc.dynamic_ssl_server_credentials(
        _configuration(tls.material, asks=asks),
        newer,  # type: ignore[arg-type]
        require_client_authentication=asks,
    )


def _configuration(material: TlsMaterial, *, asks: bool) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.chain)], material.client_ca if asks else None
    )


async def _abort(context: _Context, failure: RpcFailure) -> NoReturn:
    trailers: tuple[Any, ...] = (*failure.trailers, (DETAILS_TRAILER, failure.details))
    await context.abort(failure.code, failure.message, trailers)


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(settings.reuse_port)),
        ("grpc.max_receive_message_length", settings.request_bytes_max),
        ("grpc.max_metadata_size", _METADATA_SOFT_BYTES),
        ("grpc.absolute_max_metadata_size", _METADATA_HARD_BYTES),
        ("grpc.max_concurrent_streams", settings.streams_per_connection_max),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_INTERVAL_MIN_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.max_connection_age_ms", int(settings.connection_age_max_s * 1000)),
        ("grpc.max_connection_age_grace_ms", int(settings.connection_age_grace_s * 1000)),
    ]
