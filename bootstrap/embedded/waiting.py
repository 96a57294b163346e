"""Waiting for a condition that no descriptor reports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

POLL_INTERVAL_S: Final = 0.02
"""Short beside the 2 s a cluster takes, long beside the microseconds a look takes."""


async def until(
    condition: Callable[[], Awaitable[bool]],
    *,
    timeout_s: float,
    interval_s: float = POLL_INTERVAL_S,
) -> bool:
    """Whether the condition came true in time; it is looked at once at least."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(interval_s)
    return True
