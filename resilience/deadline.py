"""Ends the waiting for a call, whether or not the call itself can be ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

ResultT = TypeVar("ResultT")

DEADLINE_S: Final[ContextVar[float | None]] = ContextVar("deadline_s", default=None)
"""When the caller's time is over, by time.monotonic. Work that several callers share is done in an
empty context: it must not end with the first of them."""

SHORT_S: Final = 0.02
"""With less time than this, running out of it says nothing of what was called."""


def left_s(default_s: float) -> float:
    """What a call may take that would have `default_s` at most: no more than its caller has."""
    end_s = DEADLINE_S.get()
    if end_s is None:
        return default_s
    return max(0.0, min(default_s, end_s - time.monotonic()))


@contextmanager
def half_the_time() -> Iterator[None]:
    """Leaves what runs inside half of the time that the caller has; without a deadline, all."""
    end_s = DEADLINE_S.get()
    if end_s is None:
        yield
        return
    now_s = time.monotonic()
    token = DEADLINE_S.set(now_s + (end_s - now_s) / 2)
    try:
        yield
    finally:
        DEADLINE_S.reset(token)


async def within(
    timeout_s: float,
    call: Coroutine[Any, Any, ResultT],
    *,
    own_s: float = 0.0,
    on_abandoned: Callable[[int], None] | None = None,
) -> ResultT:
    """What the call returns, if it does so in time. Raises TimeoutError otherwise.

    The call runs in a task of its own, which is cancelled when nobody waits any more, and whose
    end is not waited for: cancelling a query on a frozen PostgreSQL takes psycopg ten seconds
    (measured: asyncio.timeout(0.3) returned after 10.31 s, this after 0.30 s).

    A call that has time of its own, `own_s` from its start, goes on for so long also when its
    caller has gone: what it commits is going to be asked for again. `on_abandoned` is told of
    each call that nobody waits for: 1, and -1 at its end.
    """
    loop = asyncio.get_running_loop()
    own_end_s = loop.time() + own_s
    task = asyncio.create_task(call)
    task.add_done_callback(_look)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
    except asyncio.CancelledError:
        _abandon(task, own_end_s, on_abandoned)
        raise
    if not done:
        _abandon(task, own_end_s, on_abandoned)
        raise TimeoutError
    return task.result()


def _abandon(
    task: asyncio.Task[Any], own_end_s: float, on_abandoned: Callable[[int], None] | None
) -> None:
    loop = asyncio.get_running_loop()
    if own_end_s <= loop.time():
        task.cancel()
    else:
        timer = loop.call_at(own_end_s, task.cancel)
        task.add_done_callback(lambda _: timer.cancel())
    if on_abandoned is not None and not task.done():
        on_abandoned(1)
        task.add_done_callback(lambda _: on_abandoned(-1))


def _look(task: asyncio.Task[Any]) -> None:
    """Looks at how an abandoned task ended, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()
