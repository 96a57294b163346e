"""Ends the waiting for a call, whether or not the call itself can be ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from math import inf
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
def half_the_time(*, kept_s_max: float = inf) -> Iterator[None]:
    """Leaves what runs inside half of the time that the caller has, or all but `kept_s_max` if
    that is more; without a deadline, all.
    """
    end_s = DEADLINE_S.get()
    if end_s is None:
        yield
        return
    kept_s = min(kept_s_max, (end_s - time.monotonic()) / 2)
    token = DEADLINE_S.set(end_s - kept_s)
    try:
        yield
    finally:
        DEADLINE_S.reset(token)


def shared_context(least_s: float) -> Context:
    """A context for what is begun by one caller for many: empty but for its deadline, which is the
    caller's, and `least_s` away at least.
    """
    context, end_s = Context(), DEADLINE_S.get()
    if end_s is not None:
        context.run(DEADLINE_S.set, max(end_s, time.monotonic() + least_s))
    return context


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


async def finishing(grace_s: float, call: Coroutine[Any, Any, ResultT]) -> ResultT:
    """What the call returns. It has time to end when its caller is cancelled, and is cancelled as
    well after `grace_s`; in any case it has ended when this has.
    """
    task = asyncio.create_task(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        timer = asyncio.get_running_loop().call_later(grace_s, task.cancel)
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                task.cancel()
        timer.cancel()
        _look(task)
        raise


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
    """Looks at how a task ended that nobody waits for, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()
