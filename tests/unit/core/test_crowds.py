"""Callers who go on together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from core.crowds import Crowd


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_is_alone_waits_for_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only for some turns of an idle loop."""

    def no_timer(*_: object) -> None:
        raise AssertionError("a timer was set")

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", no_timer)

    await Crowd(rest_s=0.005).join()


async def test_who_comes_after_a_crowd_goes_with_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When the time is over; who has given up meanwhile is not waited for."""
    crowd = Crowd(rest_s=0.005)
    await asyncio.gather(*(crowd.join() for _ in range(8)))
    ends: list[Callable[[], object]] = []
    monkeypatch.setattr(
        asyncio.get_running_loop(), "call_later", lambda _wait_s, end: ends.append(end)
    )

    late = [asyncio.create_task(crowd.join()) for _ in range(3)]
    await _turns(20)
    assert not any(task.done() for task in late)
    late[1].cancel()
    await _turns(1)
    (end,) = ends
    end()
    await _turns(2)

    assert [task.cancelled() for task in late] == [False, True, False]
    assert all(task.done() for task in late)


async def test_nobody_waits_when_most_of_the_crowd_are_back() -> None:
    """Seven of eight: the timer of an hour is not waited for."""
    crowd = Crowd(rest_s=3600)
    await asyncio.gather(*(crowd.join() for _ in range(8)))

    async with asyncio.timeout(5):
        await asyncio.gather(*(crowd.join() for _ in range(7)))
