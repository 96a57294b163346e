"""What the index measures."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

from prometheus_client import Counter, Gauge, Histogram

APPLY_MISSED: Final = Counter(
    "standings_index_apply_missed",
    "Parts of flushes that the index did not take at once.",
)
READ_SECONDS: Final = Histogram(
    "standings_index_read_seconds",
    "How long reads of the index took.",
    ["read"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)
ASKED_ALONE: Final = Counter(
    "standings_index_asked_alone", "Shards asked again whose node gave no plain answer."
)
LAG_SECONDS: Final = Gauge(
    "standings_index_lag_seconds",
    "Since when a shard has everything.",
    ["shard"],
    multiprocess_mode="livemostrecent",
)
REPLAYED: Final = Counter(
    "standings_index_replayed", "Transactions that the healer brought to a shard."
)

_P = ParamSpec("_P")
_T = TypeVar("_T")


def timed(read: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """A read whose time is taken, whether it is answered or fails."""
    seconds = READ_SECONDS.labels(read.__name__)

    @functools.wraps(read)
    async def taken(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        start_s = time.monotonic()
        try:
            return await read(*args, **kwargs)
        finally:
            seconds.observe(time.monotonic() - start_s)

    return taken
