"""Time limits of many tasks with one timer."""

from __future__ import annotations

import asyncio
import time

import pytest

from server.rpc.overdue import Limit, Overdue


async def _limited(overdue: Overdue, end_s: float, entered: list[Limit]) -> str:
    limit = overdue.enter(end_s)
    entered.append(limit)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if limit.caused():
            return "spent"
        raise
    finally:
        overdue.leave(limit)
    return "done"


async def test_only_what_is_overdue_is_cancelled() -> None:
    """Limits do not touch each other, and the timer ends with the last of them."""
    overdue, entered = Overdue(), []
    late = asyncio.create_task(_limited(overdue, time.monotonic() + 60, entered))
    early = asyncio.create_task(_limited(overdue, time.monotonic() - 1, entered))

    assert await early == "spent"
    assert early.cancelling() == 0
    assert not late.done()
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    again = asyncio.create_task(_limited(overdue, time.monotonic(), entered))
    assert await again == "spent"


async def test_each_is_cancelled_in_its_time() -> None:
    """Whatever has expired before, and whatever order they came in."""
    overdue, entered = Overdue(), []
    start_s = time.monotonic()
    tasks = [
        asyncio.create_task(_limited(overdue, start_s + wait_s, entered))
        for wait_s in (0.06, 0.02, 0.1)
    ]

    ends_s = {}
    for place in (1, 0, 2):
        assert await tasks[place] == "spent"
        ends_s[place] = time.monotonic() - start_s
    assert ends_s[1] >= 0.02
    assert ends_s[0] >= 0.06
    assert ends_s[2] >= 0.1


async def test_a_cancel_from_outside_wins() -> None:
    """A call that is both overdue and cancelled counts as cancelled."""
    overdue, entered = Overdue(), []
    task = asyncio.create_task(_limited(overdue, time.monotonic() + 60, entered))
    await asyncio.sleep(0)
    entered[0].expired = True
    task.cancel()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_limits_are_for_tasks() -> None:
    """Outside of a task there is nothing to cancel."""
    failures: list[Exception] = []

    def enter() -> None:
        try:
            Overdue().enter(0)
        except RuntimeError as error:
            failures.append(error)

    asyncio.get_running_loop().call_soon(enter)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert len(failures) == 1
