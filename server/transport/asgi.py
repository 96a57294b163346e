"""Bytes over gRPC by ASGI: HTTP/2 is somebody else's, framing and status are here. No rule lives
here.

The server has to speak HTTP/2 and send trailers. One `receive` brings a request of usual size, and
three `send`s, of which none waits, take its answer.
"""

from __future__ import annotations

import asyncio
import binascii
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final
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
_OK: Final = {
    "type": "http.response.trailers",
    "headers": [(b"grpc-status", b"0")],
    "more_trailers": False,
}
_END: Final = {"type": "http.response.body", "body": b"", "more_body": False}
_NOT_GRPC: Final = {"type": "http.response.start", "status": 415, "headers": []}
_ENCODINGS: Final = frozenset({"identity", "gzip", "deflate"})
_TRANSPORTS_OWN: Final = frozenset(
    {
        *(b"host", b"te", b"content-type", b"grpc-encoding", b"grpc-accept-encoding"),
        *(b"x-forwarded-proto", b"x-envoy-expected-rq-timeout-ms"),
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

    def __init__(self, routes: Mapping[str, Route], settings: ServerSettings) -> None:
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
        try:
            await self._serve(scope, receive, send)
        except Malformed as error:
            await _refuse(send, error.code, error.message)
        except asyncio.CancelledError:
            # The caller has gone, or the listener ends; only the latter may still be heard.
            await _refuse(send, StatusCode.CANCELLED, "the call was cancelled")
        finally:
            self.tasks.discard(task)

    async def _serve(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        call, content_type, encoding = _call(scope)
        if not content_type.startswith(_CONTENT[1]):
            await send(_NOT_GRPC)
            await send(_END)
            return
        route = self._routes.get(scope["path"])
        if route is None:
            raise Malformed(StatusCode.UNIMPLEMENTED, "there is no such method")
        if encoding not in _ENCODINGS:
            raise Malformed(StatusCode.UNIMPLEMENTED, "there is no such encoding")
        requests = _Requests(receive, Unframer(self._bytes_max, encoding))
        if isinstance(route, UnaryRoute):
            await self._unary(route, requests, call, send)
        elif route.method.client_streaming:
            await self._stream(route, requests, call, send)
        else:
            await self._server_stream(route, requests, call, send)

    async def _unary(
        self, route: UnaryRoute, requests: _Requests, call: CallContext, send: Send
    ) -> None:
        request = await requests.only()
        caller = self._presence.enter(requests.receive)
        try:
            answer = await route.handler(request, call)
        finally:
            self._presence.leave(caller)
        if isinstance(answer, RpcFailure):
            await _fail(send, answer)
            return
        await send(_START)
        await send({"type": "http.response.body", "body": framed(answer), "more_body": False})
        await send(_OK)

    async def _server_stream(
        self, route: StreamRoute, requests: _Requests, call: CallContext, send: Send
    ) -> None:
        request = await requests.only()
        caller = self._presence.enter(requests.receive)
        try:
            await self._stream(route, _one(request), call, send)
        finally:
            self._presence.leave(caller)

    async def _stream(
        self, route: StreamRoute, requests: AsyncIterator[bytes], call: CallContext, send: Send
    ) -> None:
        # At once: whoever reads answers wants to know that the stream is there.
        await send(_START)
        failure = None
        async with aclosing(route.handler(requests, call)) as answers:
            async for answer in answers:
                if isinstance(answer, RpcFailure):
                    failure = answer
                elif not await self._sending.write(send, answer):
                    failure = failure_of(NotRead(), call.request_id)
                    break
        await send(_END)
        trailers = _OK if failure is None else {**_OK, "headers": _trailers(failure)}
        await send(trailers)


class _Requests:
    """The messages that a caller sends. If it goes, the task of the call is cancelled."""

    def __init__(self, receive: Receive, unframer: Unframer) -> None:
        self.receive = receive
        self._unframer = unframer
        self._ended = False
        self._task = asyncio.current_task()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while (message := self._unframer.next()) is None:
            if self._ended:
                if not self._unframer.empty:
                    raise Malformed(StatusCode.INTERNAL, "the last message is not whole")
                raise StopAsyncIteration
            await self._more()
        return message

    async def only(self) -> bytes:
        """The one message of a call. Raises Malformed where there is none, or another."""
        message = await anext(self, None)
        while not self._ended:
            await self._more()
        if message is None or not self._unframer.empty:
            raise Malformed(StatusCode.UNIMPLEMENTED, "the method takes one message")
        return message

    async def _more(self) -> None:
        event = await self.receive()
        if event["type"] == GONE:
            if self._task is not None:
                self._task.cancel()
            # Whoever reads is cancelled with it, in whatever task that is.
            await asyncio.get_running_loop().create_future()
        self._ended = not event.get("more_body", False)
        self._unframer.feed(event["body"])


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
    return CallContext(deadline_s, metadata, f"{host}:{port}"), content_type, encoding


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


async def _fail(send: Send, failure: RpcFailure) -> None:
    await _tell(send, _trailers(failure))


async def _refuse(send: Send, code: StatusCode, message: str) -> None:
    await _tell(send, _status(code, message))


async def _tell(send: Send, status: Iterable[Header]) -> None:
    """A status and nothing else."""
    await send({"type": "http.response.start", "status": 200, "headers": [_CONTENT, *status]})
    await send(_END)


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
