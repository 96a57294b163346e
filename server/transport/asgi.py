"""Bytes over gRPC by ASGI: HTTP/2 is somebody else's, framing and status are here. No rule lives
here.

The server has to speak HTTP/2 and send trailers. One `receive` brings a request of usual size, and
three `send`s, of which none waits, take its answer.
"""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import re
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final, NoReturn
from urllib.parse import quote

from grpc import StatusCode

from bootstrap.server_settings import ServerSettings
from server.errors import NotRead
from server.rpc.call import CallContext
from server.rpc.chain import Route, StreamRoute, UnaryRoute
from server.rpc.overdue import Overdue
from server.rpc.status import DETAILS_TRAILER, RpcFailure, failure_of
from server.transport.framing import Malformed, Unframer, framed
from server.transport.presence import GONE, Presence, Receive

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

_CONTENT: Final = (b"content-type", b"application/grpc")
_START: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [_CONTENT, (b"grpc-accept-encoding", b"identity,deflate,gzip")],
    "trailers": True,
}
_OK: Final[Mapping[str, Any]] = {
    "type": "http.response.trailers",
    "headers": [(b"grpc-status", b"0")],
    "more_trailers": False,
}
_END: Final = {"type": "http.response.body", "body": b"", "more_body": False}
_NOT_GRPC: Final = {"type": "http.response.start", "status": 415, "headers": []}
_CANCELLED: Final = Malformed(StatusCode.CANCELLED, "the call was cancelled")
_URI: Final = re.compile(r"(?:By=[^;,]*;)?Hash=[0-9a-f]{64};URI=(.+)", re.DOTALL)
_ENCODINGS: Final = frozenset({"identity", "gzip", "deflate"})
_CERTIFICATE: Final = b"x-forwarded-client-cert"
_TRANSPORTS_OWN: Final = frozenset(
    {
        *(b"host", b"te", b"content-type", b"grpc-encoding", b"grpc-accept-encoding"),
        *(b"x-forwarded-proto", b"x-envoy-expected-rq-timeout-ms", _CERTIFICATE),
    }
)
"""What a call came with that is not its caller's word to us."""
_UNIT_S: Final = {
    b"H": 3600.0,
    b"M": 60.0,
    b"S": 1.0,
    b"m": 1e-3,
    b"u": 1e-6,
    b"n": 1e-9,
}
_TIMEOUT_DIGITS_MAX: Final = 8
_PLAIN: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
"""What a status message is sent with as it is."""


class GrpcApp:
    """Serves the routes of a chain as an ASGI application, of HTTP scopes only."""

    def __init__(
        self, routes: Mapping[str, Route], settings: ServerSettings, *, secured: bool = False
    ) -> None:
        self._secured = secured
        self._routes = routes
        self._bytes_max = settings.request_bytes_max
        self._presence = Presence()
        self._sending = _Sending(settings.send_timeout_s)
        self.tasks: set[asyncio.Task[Any]] = set()
        """The calls in progress."""

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """One call, in a task of its own."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("calls run in tasks")
        self.tasks.add(task)
        answer = _Answer(send)
        try:
            await self._serve(scope, receive, answer)
        except Malformed as error:
            await answer.end(_status(error.code, error.message))
        except asyncio.CancelledError:
            # Nothing more can be read, the listener ends, or the caller has gone and hears nothing.
            why = answer.refusal or _CANCELLED
            with contextlib.suppress(OSError):
                await answer.end(_status(why.code, why.message))
        finally:
            self.tasks.discard(task)

    async def _serve(self, scope: Mapping[str, Any], receive: Receive, answer: _Answer) -> None:
        call, content_type, encoding = _call(scope)
        if self._secured:
            call.evidence = _evidence(scope)
        if not content_type.startswith(_CONTENT[1]):
            await answer.send(_NOT_GRPC)
            await answer.send(_END)
            return
        route = self._routes.get(scope["path"])
        if route is None:
            raise Malformed(StatusCode.UNIMPLEMENTED, "there is no such method")
        if encoding not in _ENCODINGS:
            raise Malformed(StatusCode.UNIMPLEMENTED, "there is no such encoding")
        requests = _Requests(receive, Unframer(self._bytes_max, encoding), answer)
        if isinstance(route, UnaryRoute):
            await self._unary(route, requests, call, answer)
        elif route.method.client_streaming:
            await self._stream(route, requests, call, answer)
        else:
            await self._server_stream(route, requests, call, answer)

    async def _unary(
        self, route: UnaryRoute, requests: _Requests, call: CallContext, answer: _Answer
    ) -> None:
        request = await requests.only()
        caller = self._presence.enter(requests.receive)
        try:
            message = await route.handler(request, call)
        finally:
            self._presence.leave(caller)
        if isinstance(message, RpcFailure):
            await answer.end(_trailers(message))
            return
        await answer.start()
        await answer.send(
            {"type": "http.response.body", "body": framed(message), "more_body": False}
        )
        await answer.send(_OK)

    async def _server_stream(
        self, route: StreamRoute, requests: _Requests, call: CallContext, answer: _Answer
    ) -> None:
        request = await requests.only()
        caller = self._presence.enter(requests.receive)
        try:
            await self._stream(route, _one(request), call, answer)
        finally:
            self._presence.leave(caller)

    async def _stream(
        self,
        route: StreamRoute,
        requests: AsyncIterator[bytes],
        call: CallContext,
        answer: _Answer,
    ) -> None:
        # At once: whoever reads answers wants to know that the stream is there.
        await answer.start()
        failure = None
        async with aclosing(route.handler(requests, call)) as messages:
            async for message in messages:
                if isinstance(message, RpcFailure):
                    failure = message
                elif not await self._sending.write(answer.send, message):
                    failure = failure_of(NotRead(), call.request_id)
                    break
        await answer.end(_OK["headers"] if failure is None else _trailers(failure))


class _Answer:
    """What is sent back of one call: perhaps a start and messages, and a status in the end."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.refusal: Malformed | None = None
        """What its caller is told if the call is cancelled, in place of just that."""
        self._started = False

    async def start(self) -> None:
        """Messages follow."""
        self._started = True
        await self.send(_START)

    async def end(self, status: Iterable[Header]) -> None:
        """The status: behind what was sent, or all there is."""
        if self._started:
            await self.send(_END)
            await self.send({**_OK, "headers": [*status]})
        else:
            headers = [_CONTENT, *status]
            await self.send({"type": "http.response.start", "status": 200, "headers": headers})
            await self.send(_END)


class _Requests:
    """The messages that a caller sends. If it goes, or sends what is none, the task of the call is
    cancelled: to the handlers there is no more to read, in whatever task they do.
    """

    def __init__(self, receive: Receive, unframer: Unframer, answer: _Answer) -> None:
        self.receive = receive
        self._unframer = unframer
        self._answer = answer
        self._ended = False
        self._task = asyncio.current_task()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._next()
        except Malformed as error:
            self._answer.refusal = error
            return await self._give_up()

    async def _next(self) -> bytes:
        while (message := self._unframer.next()) is None:
            if self._ended:
                if not self._unframer.empty:
                    raise _cut_short()
                raise StopAsyncIteration
            # Shielded: the server sets what it was asked for, whoever still waits for that. It logs
            # an error where it cannot.
            await self._take(await asyncio.shield(self.receive()))
        return message

    async def only(self) -> bytes:
        """The one message of a call. Raises Malformed where there is none, or another."""
        message = None
        while not self._ended:
            # Nobody cancels a call of which nothing is known yet, so there is nothing to shield.
            await self._take(await self.receive())
            if message is None:
                message = self._unframer.next()
            if message is not None and not self._unframer.empty:
                break
        if message is None and not self._unframer.empty:
            raise _cut_short()
        if message is None or not self._unframer.empty:
            raise Malformed(StatusCode.UNIMPLEMENTED, "the method takes one message")
        return message

    async def _take(self, event: Mapping[str, Any]) -> None:
        if event["type"] == GONE:
            await self._give_up()
        self._ended = not event.get("more_body", False)
        self._unframer.feed(event["body"])

    async def _give_up(self) -> NoReturn:
        """Cancels the call; whoever reads is cancelled with it."""
        if self._task is not None:
            self._task.cancel()
        await asyncio.get_running_loop().create_future()
        raise AssertionError


def _cut_short() -> Malformed:
    return Malformed(StatusCode.INTERNAL, "the last message is not whole")


async def _one(request: bytes) -> AsyncIterator[bytes]:
    yield request


class _Sending:
    """Hands messages to the caller's connection, for a limited time each."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._overdue = Overdue()

    async def write(self, send: Send, message: bytes) -> bool:
        """Waits while the caller does not read: this is the back-pressure. False when the time
        for that is spent; then only the status may follow.
        """
        event = {"type": "http.response.body", "body": framed(message), "more_body": True}
        limit = self._overdue.enter(time.monotonic() + self._timeout_s)
        try:
            # Shielded: the server ends what it was asked for, whoever still waits for that.
            await asyncio.shield(asyncio.ensure_future(send(event)))
        except asyncio.CancelledError:
            if limit.caused():
                return False
            raise
        except OSError as error:
            raise asyncio.CancelledError from error  # The caller has gone.
        finally:
            self._overdue.leave(limit)
        return True


def _call(scope: Mapping[str, Any]) -> tuple[CallContext, bytes, str]:
    """The call, the type of its body and how its messages may be compressed."""
    content_type, encoding, deadline_s = b"", "identity", None
    metadata: dict[str, str | bytes] = {}
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"grpc-timeout":
            deadline_s = time.monotonic() + _seconds(value)
        elif name == b"grpc-encoding":
            encoding = value.decode("latin-1")
        elif name not in _TRANSPORTS_OWN:
            key = name.decode("latin-1")
            metadata[key] = _unarmoured(value) if key.endswith("-bin") else value.decode("latin-1")
    host, port = scope["client"]
    call = CallContext(deadline_s, metadata, lambda: f"{host}:{port}")
    return call, content_type, encoding


def _evidence(scope: Mapping[str, Any]) -> tuple[str, ...]:
    """The URI of the certificate that Envoy has verified. It sets the header itself, for each call,
    and lets none of a caller through.
    """
    told = [value for name, value in scope["headers"] if name == _CERTIFICATE]
    if len(told) != 1:
        return ()
    # Nothing follows the URI, so whatever it has in it is part of it.
    found = _URI.fullmatch(told[0].decode("latin-1"))
    return () if found is None else (found[1],)


def _seconds(timeout: bytes) -> float:
    digits, unit = timeout[:-1], timeout[-1:]
    if not digits.isdigit() or len(digits) > _TIMEOUT_DIGITS_MAX or unit not in _UNIT_S:
        raise Malformed(StatusCode.INTERNAL, "a timeout that is none")
    return int(digits) * _UNIT_S[unit]


def _unarmoured(value: bytes) -> bytes:
    """A value that was sent as base64; of several with commas between them the last one."""
    last = value.rpartition(b",")[2].strip()
    try:
        return b64decode(last + b"=" * (-len(last) % 4), validate=True)
    except binascii.Error:
        raise Malformed(StatusCode.INTERNAL, "metadata that is not base64") from None


def _trailers(failure: RpcFailure) -> list[Header]:
    # Without padding, as grpc itself sends it.
    details = b64encode(failure.details).rstrip(b"=")
    return [
        *_status(failure.code, failure.message),
        *((key.encode("ascii"), value.encode("ascii")) for key, value in failure.trailers),
        (DETAILS_TRAILER.encode("ascii"), details),
    ]


def _status(code: StatusCode, message: str) -> list[Header]:
    number: int = code.value[0]
    return [
        (b"grpc-status", b"%d" % number),
        (b"grpc-message", quote(message, safe=_PLAIN).encode("ascii")),
    ]
