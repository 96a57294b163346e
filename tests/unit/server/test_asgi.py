"""Calls as an ASGI server hands them over, and what it is given to send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from bootstrap.server_settings import ServerSettings
from core.errors import BoardNotFound
from server.rpc.call import CallContext
from server.rpc.chain import Route, StreamRoute, UnaryRoute
from server.rpc.methods import Method
from server.rpc.status import RpcFailure, failure_of
from server.transport.asgi import GrpcApp
from server.transport.framing import framed
from standings.v1 import ranking_service_pb2 as pb

SETTINGS = ServerSettings(request_bytes_max=64 * 1024, send_timeout_s=0.1)


@dataclass
class Http:
    """A call on HTTP/2: the events that come, and those that were sent."""

    path: str = "/x/Echo"
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/grpc"),)
    events: asyncio.Queue[Mapping[str, Any]] = field(default_factory=asyncio.Queue)
    sent: list[Mapping[str, Any]] = field(default_factory=list)
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: bool = False

    @classmethod
    def of(cls, *pieces: bytes, path: str = "/x/Echo", **headers: str) -> Http:
        """A call with a whole body, and headers whose names have _ for -."""
        more = ((name.replace("_", "-").encode(), v.encode()) for name, v in headers.items())
        http = cls(path, (*cls.headers, *more))
        http.reading.set()
        for number, piece in enumerate(pieces, start=1):
            http.come(piece, more=number < len(pieces))
        return http

    def come(self, body: bytes, *, more: bool = True) -> None:
        """A piece of the body comes."""
        self.events.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def go(self) -> None:
        """The caller goes."""
        self.events.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> Mapping[str, Any]:
        """The next event; like Envoy, nothing new at once when the body has ended."""
        if self.events.empty() and self._ended:
            return {"type": "http.request", "body": b"", "more_body": False}
        event = await self.events.get()
        self._ended = not event.get("more_body", False)
        return event

    async def send(self, event: Mapping[str, Any]) -> None:
        """Takes what is sent; bodies wait until the caller reads."""
        if event.get("body"):
            await self.reading.wait()
        self.sent.append(event)
        self.heard.set()

    async def through(self, app: GrpcApp) -> Http:
        """The call, to its end."""
        scope = {
            "type": "http",
            "path": self.path,
            "headers": self.headers,
            "client": ("1.2.3.4", 5),
        }
        await app(scope, self.receive, self.send)
        return self

    @property
    def status(self) -> dict[str, str]:
        """Headers and trailers together."""
        pairs = (pair for event in self.sent for pair in event.get("headers", ()))
        return {name.decode(): value.decode() for name, value in pairs}

    @property
    def kinds(self) -> list[str]:
        """What was sent, such as start, body, trailers."""
        return [event["type"].rpartition(".")[2] for event in self.sent]

    @property
    def body(self) -> bytes:
        """All that was sent of it."""
        return b"".join(event.get("body", b"") for event in self.sent)


async def _echo(request: bytes, _call: CallContext) -> bytes:
    return request


async def _echoes(
    requests: AsyncIterator[bytes], _call: CallContext
) -> AsyncGenerator[bytes, None]:
    async for request in requests:
        yield request


def _method(*, client_streaming: bool = False, server_streaming: bool = False) -> Method:
    return Method(
        *("/x/Echo", pb.SubmitScoreRequest, pb.SubmitScoreResponse),
        client_streaming,
        server_streaming,
        _echo,
    )


def an_app(**handlers: Callable[..., Any]) -> GrpcApp:
    """An application with these methods: unary, answers (of one request) or stream."""
    made: dict[str, Callable[[Callable[..., Any]], Route]] = {
        "unary": lambda handler: UnaryRoute(_method(), handler),
        "answers": lambda handler: StreamRoute(_method(server_streaming=True), handler),
        "stream": lambda handler: StreamRoute(
            _method(client_streaming=True, server_streaming=True), handler
        ),
    }
    routes = {f"/x/{name}": made[name](handler) for name, handler in handlers.items()}
    return GrpcApp(routes, SETTINGS)


@pytest.mark.parametrize("cut", [1, 5, 7])
async def test_a_unary_call(cut: int) -> None:
    """In whatever pieces it comes, it is answered whole, with its status behind it."""
    body = framed(b"hello")

    http = await Http.of(body[:cut], body[cut:], path="/x/unary").through(an_app(unary=_echo))

    assert (http.body, http.status["grpc-status"]) == (framed(b"hello"), "0")
    assert http.kinds == ["start", "body", "trailers"]


async def test_what_the_call_came_with() -> None:
    """Its deadline, its own metadata and nothing of the transport's; binary values as bytes."""
    seen: list[CallContext] = []

    async def look(request: bytes, call: CallContext) -> bytes:
        seen.append(call)
        return request

    loop = asyncio.get_running_loop()
    http = Http.of(
        *(framed(b""),),
        path="/x/unary",
        te="trailers",
        grpc_timeout="1500m",
        x_request_id="abc",
        x_a_bin="AAE",
    )
    await http.through(an_app(unary=look))

    (call,) = seen
    assert call.metadata == {"x-request-id": "abc", "x-a-bin": b"\x00\x01"}
    assert call.peer == "1.2.3.4:5"
    assert call.deadline_s is not None
    assert 1 < call.deadline_s - loop.time() <= 1.5


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (framed(b"a") + framed(b"b"), {}, 12),
        (b"", {}, 12),
        (framed(b"abc")[:-1], {}, 13),
        (framed(bytes(64 * 1024 + 1)), {}, 8),
        (framed(b""), {"grpc_encoding": "snappy"}, 12),
        (framed(b""), {"grpc_timeout": "soon"}, 13),
        (framed(b""), {"grpc_timeout": "123456789S"}, 13),
        (framed(b""), {"x_a_bin": "*"}, 13),
    ],
)
async def test_calls_that_are_refused(body: bytes, headers: dict[str, str], code: int) -> None:
    """Before anybody sees them."""
    http = await Http.of(body, path="/x/unary", **headers).through(an_app(unary=_never))

    assert (http.status["grpc-status"], http.body) == (str(code), b"")


async def _never(_request: bytes, _call: CallContext) -> bytes:
    raise AssertionError


@pytest.mark.parametrize(
    ("header", "secured", "evidence"),
    [
        (f"Hash={'a' * 64};URI=spiffe://x/sre/a", True, ("spiffe://x/sre/a",)),
        (f"By=spiffe://x/s;Hash={'a' * 64};URI=spiffe://x/sre/a", True, ("spiffe://x/sre/a",)),
        (f"Hash={'a' * 64};URI=b;URI=spiffe://x/sre/a", True, ("b;URI=spiffe://x/sre/a",)),
        (f"Hash={'a' * 64};URI=", True, ()),
        ("URI=spiffe://x/sre/a", True, ()),
        (f"Hash={'a' * 64};URI=spiffe://x/sre/a", False, ()),
    ],
)
async def test_the_certificate_that_envoy_has_seen(
    header: str, *, secured: bool, evidence: tuple[str, ...]
) -> None:
    """Its URI is evidence where Envoy speaks TLS, nothing where it does not, and never metadata."""
    seen: list[CallContext] = []

    async def look(request: bytes, call: CallContext) -> bytes:
        seen.append(call)
        return request

    app = GrpcApp({"/x/unary": UnaryRoute(_method(), look)}, SETTINGS, secured=secured)
    await Http.of(framed(b""), path="/x/unary", x_forwarded_client_cert=header).through(app)

    assert (seen[0].evidence, seen[0].metadata) == (evidence, {})


async def test_other_paths_and_types() -> None:
    """A method that is not there is UNIMPLEMENTED; what is not gRPC is told in HTTP."""
    unknown = await Http.of(framed(b""), path="/y").through(an_app())
    page = Http.of(b"", path="/x/unary")
    page.headers = ((b"content-type", b"text/html"),)
    await page.through(an_app(unary=_never))

    assert unknown.status["grpc-status"] == "12"
    assert page.sent[0]["status"] == 415


async def test_failures_are_told_whole() -> None:
    """Code, text in any language, the pushback and the details."""

    async def fail(_request: bytes, _call: CallContext) -> RpcFailure:
        failure = failure_of(BoardNotFound(), "id")
        return RpcFailure(
            *(failure.code, "50 % für\nalle", failure.details, (("x-more", "1"),)),
            *(failure.level, failure.error),
        )

    http = await Http.of(framed(b""), path="/x/unary").through(an_app(unary=fail))

    assert http.status["grpc-status"] == "5"
    assert http.status["grpc-message"] == "50 %25 f%C3%BCr%0Aalle"
    assert http.status["x-more"] == "1"
    assert "=" not in http.status["grpc-status-details-bin"]


async def test_streams_of_requests_and_answers() -> None:
    """Each message is answered as it comes; the status comes when the requests have ended."""
    http = Http.of(path="/x/stream")
    call = asyncio.create_task(http.through(an_app(stream=_echoes)))
    for message in (b"a", b"b"):
        http.come(framed(message))
    http.reading.set()
    async with asyncio.timeout(5):
        while http.body != framed(b"a") + framed(b"b"):
            http.heard.clear()
            await http.heard.wait()
    assert "grpc-status" not in http.status
    http.come(b"", more=False)
    await call

    assert http.status["grpc-status"] == "0"


async def test_streams_of_answers_end_with_their_failure() -> None:
    """What came before it stands."""

    async def answers(
        requests: AsyncIterator[bytes], _call: CallContext
    ) -> AsyncGenerator[bytes | RpcFailure, None]:
        async for request in requests:
            yield request
        yield failure_of(BoardNotFound(), "id")

    http = await Http.of(framed(b"a"), path="/x/answers").through(an_app(answers=answers))

    assert (http.body, http.status["grpc-status"]) == (framed(b"a"), "5")


@pytest.mark.parametrize("kind", ["unary", "answers", "stream"])
async def test_a_caller_who_goes_ends_the_call(kind: str) -> None:
    """Whether it still sends or only waits; what the call held is let go."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait(*_: object) -> bytes:
        begun.set()
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    async def wait_for_requests(requests: AsyncIterator[bytes], _call: CallContext) -> Any:
        if kind == "answers":
            yield await wait()
        begun.set()
        try:
            async for _ in requests:
                yield b""
        finally:
            ended.set()

    http = Http.of(path=f"/x/{kind}")
    http.come(framed(b""), more=kind == "stream")
    app = an_app(**{kind: wait if kind == "unary" else wait_for_requests})
    call = asyncio.create_task(http.through(app))
    async with asyncio.timeout(5):
        await begun.wait()
        http.go()
        await ended.wait()
        await call

    assert app.tasks == set()


async def test_who_does_not_read_is_not_waited_for() -> None:
    """A message has its time; then the stream ends with a status."""
    ended = asyncio.Event()

    async def answers(requests: AsyncIterator[bytes], call: CallContext) -> Any:
        try:
            async for answer in _echoes(requests, call):
                yield answer
        finally:
            ended.set()

    http = Http.of(framed(b"a"), path="/x/answers")
    http.reading.clear()
    async with asyncio.timeout(5):
        await http.through(an_app(answers=answers))

    assert ended.is_set()
    assert http.status["grpc-status"] == "14"


@pytest.mark.parametrize(
    ("piece", "code"), [(framed(bytes(64 * 1024 + 1)), "8"), (b"\x07\0\0\0\0", "13")]
)
async def test_a_stream_that_cannot_be_read_further(piece: bytes, code: str) -> None:
    """What was answered stands, and the status says why there is no more; the call is ended."""
    ended = asyncio.Event()

    async def answers(requests: AsyncIterator[bytes], call: CallContext) -> Any:
        try:
            async for answer in _echoes(requests, call):
                yield answer
        finally:
            ended.set()

    http = Http.of(path="/x/stream")
    http.come(framed(b"a"))
    http.come(piece)
    async with asyncio.timeout(5):
        await http.through(an_app(stream=answers))

    assert ended.is_set()
    assert (http.body, http.status["grpc-status"]) == (framed(b"a"), code)
    assert http.kinds == ["start", "body", "body", "trailers"]


@pytest.mark.parametrize(
    ("kind", "sent"), [("unary", ["start", "body"]), ("answers", ["start", "body", "trailers"])]
)
async def test_a_call_that_is_cancelled_gets_a_status(kind: str, sent: list[str]) -> None:
    """As a listener does when its time is over, whether something was sent before or not."""
    begun = asyncio.Event()

    async def wait(*_: object) -> Any:
        begun.set()
        await asyncio.get_running_loop().create_future()

    async def stream(*_: object) -> Any:
        yield await wait()

    http = Http.of(framed(b""), path=f"/x/{kind}")
    call = asyncio.create_task(http.through(an_app(**{kind: wait if kind == "unary" else stream})))
    async with asyncio.timeout(5):
        await begun.wait()
        call.cancel()
        await call

    assert (http.status["grpc-status"], http.kinds) == ("1", sent)
