"""How spans leave the process: by a queue that drops what it has no room for, and a thread of its
own. A collector that is slow, silent or away costs no call anything.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

Count = Callable[[str, int], None]
"""Told how many spans have ended, were exported or have failed to be."""

_log = logging.getLogger(__name__)

_PATH: Final = "/v1/traces"
_TELL_S: Final = 60.0
"""How often it is told that spans are lost."""
_CLOSE_S: Final = 2.0
"""What the last spans get at the end of a process."""


class Exporting:
    """The way out: spans that have ended go into `processor`."""

    def __init__(self, endpoint: str, count: Count) -> None:
        # Its own lines name hosts; what is lost is told below.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self.processor = _Counting(_Told(OTLPSpanExporter(_full(endpoint)), count), count)

    async def aclose(self) -> None:
        """Sends what is left, for a limited time."""
        loop = asyncio.get_running_loop()
        closed = asyncio.Event()

        def close() -> None:
            self.processor.shutdown()  # type: ignore[no-untyped-call]
            # The loop has ended where this took too long.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(closed.set)

        # No executor: that would be waited for at the end of the process.
        threading.Thread(target=close, name="end of traces", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await closed.wait()


class _Counting(BatchSpanProcessor):
    """Counts what goes in."""

    def __init__(self, exporter: SpanExporter, count: Count) -> None:
        super().__init__(exporter)
        self._count = count

    def on_end(self, span: ReadableSpan) -> None:
        """Takes a span."""
        self._count("ended", 1)
        super().on_end(span)


class _Told(SpanExporter):
    """Another exporter, whose losses are counted and told; all in the thread that exports."""

    def __init__(self, exporter: SpanExporter, count: Count) -> None:
        self._exporter = exporter
        self._count = count
        self._tell_at_s = 0.0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends some spans."""
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._count("exported", len(spans))
            return result
        self._count("failed", len(spans))
        now_s = time.monotonic()
        if now_s >= self._tell_at_s:
            self._tell_at_s = now_s + _TELL_S
            _log.warning("traces are lost: the collector does not take them")
        return result

    def shutdown(self) -> None:
        """Ends what is on its way."""
        self._exporter.shutdown()


def _full(endpoint: str) -> str:
    """The endpoint, with the usual path where it has none."""
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + _PATH
