"""Traces, from the start of a process to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec

from bootstrap.errors import NotConfigured
from bootstrap.trace_settings import TraceSettings
from bootstrap.tracing import metrics
from core.tracing import Tracer


@asynccontextmanager
async def open_tracing(settings: TraceSettings, slot: int) -> AsyncIterator[Tracer | None]:
    """What traces the calls of the worker of a slot; None where nothing is collected, and then
    nothing of it is even loaded. On leaving, what is left is sent, for two seconds at most.

    Raises NotConfigured without the extra `otel`.
    """
    if settings.endpoint is None:
        yield None
        return
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
        raise NotConfigured("STANDINGS_TRACES_ENDPOINT needs the extra `otel`")
    # Not before it is known that they can be loaded, and not where nobody wants them.
    from bootstrap.tracing.exporting import Exporting  # noqa: PLC0415
    from bootstrap.tracing.recording import RatioTracer  # noqa: PLC0415

    exporting = Exporting(settings.endpoint, metrics.count)
    try:
        yield RatioTracer(exporting.processor, settings.ratio, {"standings.slot": slot})
    finally:
        await exporting.aclose()
