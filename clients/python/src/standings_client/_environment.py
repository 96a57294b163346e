"""Time, waiting and chance, in one place, so that a test can put its own in."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the client takes from its surroundings.

    `monotonic_s` measures spans and `wall_ms` dates submission ids; `sleep` and `sleep_async` wait
    between attempts; `uniform` spreads them; `random_bits` fills ids.
    """

    monotonic_s: Callable[[], float] = time.monotonic
    wall_ms: Callable[[], int] = _wall_ms
    sleep: Callable[[float], None] = time.sleep
    sleep_async: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[float, float], float] = random.uniform
    random_bits: Callable[[int], int] = secrets.randbits
