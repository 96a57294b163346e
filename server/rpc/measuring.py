"""The links of the chain that measure calls, and where reads were answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, ClassVar, Final

from google.protobuf.message import Message
from grpc import StatusCode

from core.errors import StandingsError
from server import metrics
from server.rpc.call import CallContext
from server.rpc.chain import StreamHandler, UnaryHandler
from server.rpc.methods import Method
from server.rpc.status import RpcFailure
from standings.v1 import types_pb2

_TELL_S: Final = 0.05
"""As long as all that is counted may take to be seen: bootstrap/metrics.py."""
_OK_AND_ALARMING: Final = (
    *(StatusCode.OK, StatusCode.INTERNAL),
    *(StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED),
)


class Measure:
    """Counts calls by how they ended, and takes their time."""

    name: ClassVar = "measure"
    after: ClassVar[frozenset[str]] = frozenset({"request id"})

    def __init__(self) -> None:
        self._in_flight = _InFlight()

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Measured, one request."""
        ends = _Ends(method)
        seconds = metrics.CALL_SECONDS.labels(ends.method)
        in_flight = self._in_flight

        async def measured(request: bytes, call: CallContext) -> Any:  # noqa: ANN401
            start_s = time.monotonic()
            in_flight.change(1)
            try:
                answer = await handler(request, call)
            except asyncio.CancelledError:
                ends.count(StatusCode.CANCELLED)
                raise
            finally:
                in_flight.change(-1)
            ends.tell(answer)
            span = call.span
            seconds.observe(
                time.monotonic() - start_s, None if span is None else {"trace_id": span.trace_id}
            )
            return answer

        return measured

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """Measured, a stream; its time is its caller's business."""
        ends = _Ends(method)
        in_flight = self._in_flight

        async def measured(
            requests: AsyncIterator[bytes], call: CallContext
        ) -> AsyncGenerator[Any, None]:
            answer = None
            in_flight.change(1)
            try:
                async with aclosing(handler(requests, call)) as answers:
                    async for answer in answers:
                        yield answer
            except (asyncio.CancelledError, GeneratorExit):
                ends.count(StatusCode.CANCELLED)
                raise
            finally:
                in_flight.change(-1)
            ends.tell(answer)

        return measured


class _InFlight:
    """How many calls are in progress. The gauge of that is written a moment after it has changed,
    and not twice a call.
    """

    def __init__(self) -> None:
        self._growth = 0
        self._noted = False

    def change(self, by: int) -> None:
        """So many more are in progress, or fewer."""
        self._growth += by
        if not self._noted:
            self._noted = True
            asyncio.get_running_loop().call_later(_TELL_S, self._tell)

    def _tell(self) -> None:
        metrics.IN_FLIGHT.inc(self._growth)
        self._growth, self._noted = 0, False


class _Ends:
    """How the calls of a method ended; a counter that was looked up once is kept."""

    def __init__(self, method: Method) -> None:
        self.method = _label(method)
        # What alerts look at is there from the start, or the first would be no increase.
        self._others = {
            code: metrics.CALLS.labels(self.method, code.name) for code in _OK_AND_ALARMING
        }
        self._ok = self._others[StatusCode.OK]

    def tell(self, last: object) -> None:
        """Counts a call that ended with this value."""
        if not isinstance(last, RpcFailure):
            self._ok.inc()
            return
        self.count(last.code)
        if last.code is StatusCode.RESOURCE_EXHAUSTED and isinstance(last.error, StandingsError):
            metrics.REFUSED.labels(last.error.reason).inc()

    def count(self, code: StatusCode) -> None:
        """Counts a call that ended with this code."""
        counter = self._others.get(code)
        if counter is None:
            counter = self._others[code] = metrics.CALLS.labels(self.method, code.name)
        counter.inc()


class Sources:
    """Counts where the answers of reads came from, and how old those are that admit an age."""

    name: ClassVar = "sources"
    # It looks at messages.
    after: ClassVar = frozenset({"decode"})

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Looked at, if its answers say where they come from."""
        meta = method.response_type.DESCRIPTOR.fields_by_name.get("meta")
        if meta is None or meta.message_type is not types_pb2.ReadMeta.DESCRIPTOR:
            return handler
        label = _label(method)
        counters = {
            value: metrics.READS.labels(label, name.removeprefix("SOURCE_").lower())
            for name, value in types_pb2.Source.items()
        }

        async def looked_at(request: Message, call: CallContext) -> Any:  # noqa: ANN401
            answer = await handler(request, call)
            meta: types_pb2.ReadMeta = answer.meta
            counters[meta.source].inc()
            if meta.HasField("staleness"):
                age = meta.staleness
                metrics.STALE_SECONDS.observe(age.seconds + age.nanos / 1e9)
            return answer

        return looked_at

    def stream(self, _method: Method, handler: StreamHandler) -> StreamHandler:
        """A stream as it is."""
        return handler


def _label(method: Method) -> str:
    """Such as RankingService.GetEntry."""
    service, _, name = method.path.rpartition("/")
    return f"{service.rpartition('.')[2]}.{name}"
