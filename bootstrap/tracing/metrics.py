"""What became of spans."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

_SPANS: Final = Counter(
    "standings_trace_spans",
    "Spans by what became of them; ended and neither exported nor failed: no room in the queue.",
    ["result"],
)
_RESULTS: Final = {result: _SPANS.labels(result) for result in ("ended", "exported", "failed")}


def count(result: str, spans: int) -> None:
    """So many more spans have ended, were exported or failed to be."""
    _RESULTS[result].inc(spans)
