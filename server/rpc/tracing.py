"""The link of the chain that traces calls; only where traces are collected is it in the chain.

The first thing it does is to decide, and a call that is not traced goes on as if it were not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Any, ClassVar, Final

from grpc import StatusCode

from core.tracing import SPAN, Span, Tracer
from server.rpc.call import CallContext
from server.rpc.chain import StreamHandler, UnaryHandler
from server.rpc.methods import Method
from server.rpc.status import RpcFailure

_OURS: Final = "/standings."
"""Health checks and reflection would only be noise in traces."""
_CODE: Final = "rpc.response.status_code"
_SERVERS_FAULT: Final = frozenset(
    {
        *(StatusCode.UNKNOWN, StatusCode.DEADLINE_EXCEEDED, StatusCode.UNIMPLEMENTED),
        *(StatusCode.INTERNAL, StatusCode.UNAVAILABLE, StatusCode.DATA_LOSS),
    }
)
"""What makes a server's span an error, by OpenTelemetry's conventions for gRPC."""


class Trace:
    """Gives traced calls a span: `call.span`, and core.tracing.SPAN for what is done for it."""

    name: ClassVar = "trace"
    after: ClassVar = frozenset({"request id"})

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Traced, one request."""
        if not method.path.startswith(_OURS):
            return handler
        begin, name = self._tracer.begin, method.path[1:]

        async def recorded(span: Span, request: bytes, call: CallContext) -> Any:  # noqa: ANN401
            _enter(span, call)
            SPAN.set(span)
            try:
                answer = await handler(request, call)
            except asyncio.CancelledError:
                _end(span, StatusCode.CANCELLED)
                raise
            _end_with(span, answer)
            return answer

        # Not a coroutine of its own: where nothing is traced it would be one more a call.
        def traced(request: bytes, call: CallContext) -> Awaitable[Any]:
            span = begin(name, call.metadata)
            return handler(request, call) if span is None else recorded(span, request, call)

        return traced

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """Traced, a stream. What is done for one that only answers is no part of its span: it may
        be open for hours, and shares its reads with others.
        """
        if not method.path.startswith(_OURS):
            return handler
        begin, name = self._tracer.begin, method.path[1:]

        async def recorded(
            span: Span, requests: AsyncIterator[bytes], call: CallContext
        ) -> AsyncGenerator[Any, None]:
            _enter(span, call)
            if method.client_streaming:
                SPAN.set(span)
            answer = None
            try:
                async with aclosing(handler(requests, call)) as answers:
                    async for answer in answers:
                        yield answer
            except (asyncio.CancelledError, GeneratorExit):
                _end(span, StatusCode.CANCELLED)
                raise
            _end_with(span, answer)

        def traced(requests: AsyncIterator[bytes], call: CallContext) -> AsyncGenerator[Any, None]:
            span = begin(name, call.metadata)
            return handler(requests, call) if span is None else recorded(span, requests, call)

        return traced


def _enter(span: Span, call: CallContext) -> None:
    span.note("standings.request_id", call.request_id)
    call.span = span


def _end_with(span: Span, last: object) -> None:
    """The last value of a call says how it ended."""
    if not isinstance(last, RpcFailure):
        _end(span, StatusCode.OK)
        return
    span.note("standings.reason", type(last.error).__name__)
    _end(span, last.code)


def _end(span: Span, code: StatusCode) -> None:
    span.note(_CODE, code.name)
    span.end(error=code.name if code in _SERVERS_FAULT else "")
