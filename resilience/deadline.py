"""Ends the waiting for a call, whether or not the call itself can be ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


async def within(timeout_s: float, call: Coroutine[Any, Any, ResultT]) -> ResultT:
    """What the call returns, if it does so in time. Raises TimeoutError otherwise.

    The call runs in a task of its own, which is cancelled when nobody waits any more, and whose
    end is not waited for: cancelling a query on a frozen PostgreSQL takes psycopg ten seconds
    (measured: asyncio.timeout(0.3) returned after 10.31 s, this after 0.30 s).
    """
    task = asyncio.create_task(call)
    task.add_done_callback(_look)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        raise TimeoutError
    return task.result()


def _look(task: asyncio.Task[Any]) -> None:
    """Looks at how an abandoned task ended, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()
