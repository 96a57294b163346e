"""Which calls are traced, and how their spans are made."""

from __future__ import annotations

import random
import subprocess
import sys
from importlib.machinery import ModuleSpec

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import StatusCode

from bootstrap.errors import NotConfigured
from bootstrap.trace_settings import TraceSettings
from bootstrap.tracing import opening
from bootstrap.tracing.recording import RatioTracer
from core.tracing import SPAN, span_here

METHOD = "standings.v1.RankingService/GetEntry"
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def _tracer(ratio: float, seed: int = 1) -> tuple[RatioTracer, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    draw = random.Random(seed).getrandbits
    return RatioTracer(SimpleSpanProcessor(exporter), ratio, {}, draw), exporter


def test_the_trace_id_decides() -> None:
    """The same ids are traced that OpenTelemetry's own sampler takes, in the wanted part of all."""
    tracer, _ = _tracer(0.1)
    ids, sampler = random.Random(1), TraceIdRatioBased(0.1)
    wanted, found = [], []
    for _ in range(5_000):
        trace_id = ids.getrandbits(128)
        decided = sampler.should_sample(None, trace_id, METHOD).decision.is_sampled()
        span = tracer.begin(METHOD, {})
        assert (span is not None) == decided
        if span is not None:
            ids.getrandbits(64)  # that of its span
            wanted.append(f"{trace_id:032x}")
            found.append(span.trace_id)

    assert found == wanted
    assert 400 < len(found) < 600


@pytest.mark.parametrize(
    ("traceparent", "traced"),
    [
        (f"00-{TRACE_ID}-{SPAN_ID}-01", True),
        (f"00-{TRACE_ID}-{SPAN_ID}-03", True),
        (f"00-{TRACE_ID}-{SPAN_ID}-00", False),
        (f"00-{TRACE_ID}-{SPAN_ID}-02", False),
        (f"01-{TRACE_ID}-{SPAN_ID}-01-what-comes-later", True),
        (f"ff-{TRACE_ID}-{SPAN_ID}-01", False),
        (f"00-{'0' * 32}-{SPAN_ID}-01", False),
        (f"00-{TRACE_ID}-{'0' * 16}-01", False),
        (f"00-{TRACE_ID.upper()}-{SPAN_ID}-01", False),
        ("", False),
    ],
)
def test_the_caller_decides(traceparent: str, traced: bool) -> None:  # noqa: FBT001
    """By W3C's rules; a traceparent that is none is as if it were not there."""
    tracer, exporter = _tracer(0.0)
    span = tracer.begin(METHOD, {"traceparent": traceparent, "tracestate": "vendor=value"})

    assert (span is not None) == traced
    if span is not None:
        span.end()
        (seen,) = exporter.get_finished_spans()
        assert span.trace_id == TRACE_ID
        assert seen.parent is not None
        assert f"{seen.parent.span_id:016x}" == SPAN_ID
        assert seen.context.trace_state.get("vendor") == "value"


@given(st.text() | st.binary(), st.text(max_size=600) | st.binary(max_size=20))
def test_whatever_callers_send_is_taken(traceparent: str | bytes, tracestate: str | bytes) -> None:
    """Nothing that comes as metadata breaks a call."""
    tracer, _ = _tracer(0.5)
    tracer.begin(METHOD, {"traceparent": traceparent, "tracestate": tracestate})
    tracer.begin(METHOD, {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01", "tracestate": tracestate})


def test_spans_have_times_links_and_errors() -> None:
    """A part that is told of afterwards lies where it was; a failed one says by what."""
    tracer, exporter = _tracer(1.0)
    call, other = tracer.begin(METHOD, {}), tracer.begin(METHOD, {})
    assert call is not None
    assert other is not None
    part = call.child("part", {"a": 1}, links=[call, other], ago_s=0.5, remote=True)
    part.end(took_s=0.2, error="NodeLost")
    other.link(part)
    other.end()
    call.end()
    seen, second, first = exporter.get_finished_spans()

    assert seen.end_time - seen.start_time == pytest.approx(2e8, rel=1e-6)
    assert first.start_time - seen.start_time == pytest.approx(5e8, rel=0.1)
    assert {link.context.span_id for link in seen.links} == {
        first.context.span_id,
        second.context.span_id,
    }
    assert [link.context.span_id for link in second.links] == [seen.context.span_id]
    assert (seen.status.status_code, seen.attributes["error.type"]) == (
        StatusCode.ERROR,
        "NodeLost",
    )


def test_a_task_that_outlives_a_call_has_no_span() -> None:
    """Or its work would be added to the trace for ever."""
    tracer, _ = _tracer(1.0)
    span = tracer.begin(METHOD, {})
    assert span is not None
    before = SPAN.set(span)
    assert span_here() is span
    span.end()

    assert span_here() is None
    SPAN.reset(before)


async def test_without_the_extra_the_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """And without an endpoint nothing is needed."""

    def missing(_name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(opening, "find_spec", missing)
    async with opening.open_tracing(TraceSettings(), 0) as tracer:
        assert tracer is None
    with pytest.raises(NotConfigured, match="extra `otel`"):
        async with opening.open_tracing(TraceSettings(endpoint="http://127.0.0.1:1"), 0):
            pass


def test_a_worker_that_does_not_trace_loads_nothing() -> None:
    """Of what makes and sends spans. Redis's client looks for OpenTelemetry by itself."""
    unwanted = {"bootstrap.tracing.recording", "opentelemetry.exporter", "requests"}
    program = f"import cli.working, sys; print({unwanted} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert done.stdout.strip() == "set()"
