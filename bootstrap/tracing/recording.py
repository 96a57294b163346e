"""core.tracing on OpenTelemetry's SDK."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from core.tracing import Attributes
from core.tracing import Span as SpanPort

_NAME: Final = "standings"
_TRACEPARENT: Final = "traceparent"
_TRACESTATE: Final = "tracestate"
_LENGTH: Final = 55
_UNSAMPLED_ENDS: Final = frozenset("02468aceACE")
"""The last digit of a traceparent whose caller does not trace: of its flags, the lowest bit."""
_RATIO_BITS: Final = (1 << 64) - 1
"""The part of a trace id that decides, the same as in OpenTelemetry's own samplers."""
_NS: Final = 1_000_000_000
_TRACESTATE_MAX: Final = 512
_EMPTY: Final = Context()
_RANDOM: Final = random.Random()  # noqa: S311  # nobody need be kept from guessing them


class RecordedSpan:
    """A core.tracing.Span."""

    __slots__ = ("_inside", "_span", "_start_ns", "_tracer", "context", "span_id", "trace_id")

    def __init__(self, tracer: Tracer, span: Span, start_ns: int) -> None:
        self._tracer = tracer
        self._span = span
        self._start_ns = start_ns
        self._inside: Context | None = None
        self.context = span.get_span_context()
        self.trace_id = f"{self.context.trace_id:032x}"
        self.span_id = f"{self.context.span_id:016x}"

    @property
    def open(self) -> bool:
        """See core.tracing.Span.open."""
        return self._span.is_recording()

    def child(
        self,
        name: str,
        attributes: Attributes,
        *,
        links: Sequence[SpanPort] = (),
        ago_s: float = 0.0,
        remote: bool = False,
    ) -> RecordedSpan:
        """See core.tracing.Span.child."""
        start_ns = time.time_ns() - int(ago_s * _NS)
        if self._inside is None:
            self._inside = set_span_in_context(self._span, _EMPTY)
        span = self._tracer.start_span(
            name,
            self._inside,
            kind=SpanKind.CLIENT if remote else SpanKind.INTERNAL,
            attributes=attributes,
            links=[Link(_context_of(other)) for other in links],
            start_time=start_ns,
        )
        return RecordedSpan(self._tracer, span, start_ns)

    def link(self, other: SpanPort) -> None:
        """See core.tracing.Span.link."""
        self._span.add_link(_context_of(other))

    def note(self, name: str, value: str | int) -> None:
        """See core.tracing.Span.note."""
        self._span.set_attribute(name, value)

    def end(self, *, error: str = "", took_s: float | None = None) -> None:
        """See core.tracing.Span.end."""
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(None if took_s is None else self._start_ns + int(took_s * _NS))


class RatioTracer:
    """A core.tracing.Tracer: whoever calls decides, and for those who do not, chance.

    `draw` gives so many random bits. Cost of a call that is not traced: that many and a comparison.
    """

    def __init__(
        self,
        processor: SpanProcessor,
        ratio: float,
        about: Mapping[str, str | int],
        draw: Callable[[int], int] = _RANDOM.getrandbits,
    ) -> None:
        self._bound = round(ratio * (1 << 64))
        self._draw = draw
        self._ids = _Ids(draw)
        provider = TracerProvider(
            sampler=ALWAYS_ON,  # It is asked about calls that are traced only.
            resource=_resource(about),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        provider.add_span_processor(processor)
        self._tracer = provider.get_tracer(_NAME)

    def begin(self, method: str, metadata: Mapping[str, str | bytes]) -> RecordedSpan | None:
        """See core.tracing.Tracer.begin."""
        given = metadata.get(_TRACEPARENT)
        parent = _EMPTY
        if given is not None:
            # A look at its end, because a full look costs more than all else here.
            if len(given) == _LENGTH and given[-1] in _UNSAMPLED_ENDS:
                return None
            parent = _extracted(given, metadata.get(_TRACESTATE))
        if parent is _EMPTY:
            trace_id = self._draw(128)
            if trace_id & _RATIO_BITS >= self._bound:
                return None
            self._ids.next_trace_id = trace_id
        start_ns = time.time_ns()
        span = self._tracer.start_span(
            method,
            parent,
            kind=SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": method},
            start_time=start_ns,
        )
        return RecordedSpan(self._tracer, span, start_ns)


class _Ids(IdGenerator):
    """Gives the next trace the id by which it was decided that there is one."""

    def __init__(self, draw: Callable[[int], int]) -> None:
        self._draw = draw
        self.next_trace_id = 1

    def generate_trace_id(self) -> int:
        return self.next_trace_id or 1

    def generate_span_id(self) -> int:
        return self._draw(64) or 1

    def is_trace_id_random(self) -> bool:
        return True


def _extracted(traceparent: str | bytes, tracestate: str | bytes | None) -> Context:
    """The caller's span, if it is well formed and traced; else nothing."""
    if not isinstance(traceparent, str):
        return _EMPTY
    carrier = {_TRACEPARENT: traceparent}
    if isinstance(tracestate, str) and len(tracestate) <= _TRACESTATE_MAX:
        carrier[_TRACESTATE] = tracestate
    context = TraceContextTextMapPropagator().extract(carrier, _EMPTY)
    found = get_current_span(context).get_span_context()
    return context if found.is_valid and found.trace_flags.sampled else _EMPTY


def _context_of(span: SpanPort) -> SpanContext:
    return span.context if isinstance(span, RecordedSpan) else INVALID_SPAN_CONTEXT


def _resource(about: Mapping[str, str | int]) -> Resource:
    """What OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say goes before what we say."""
    resource = Resource.create(dict(about))
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return resource.merge(Resource({SERVICE_NAME: _NAME}))
    return resource
