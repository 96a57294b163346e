"""Who goes together: by turns of the loop, or by a timer that is held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

import pytest

from core.lull import Lull

_Callback: TypeAlias = Callable[[], object]


class _Acts:
    """Counts what a lull calls back for."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_comes_alone_waits_for_turns_and_no_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even where the last who went were a few."""
    acts = _Acts()
    lull = Lull(acts, rest_s=0.005)
    lull.went(7)
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", _no_timer)

    lull.come()
    # An idle loop's turns take microseconds; a slow moment of the machine only adds some.
    while lull.waiting:
        await _turns(1)

    assert acts.count == 1


async def test_who_comes_right_after_a_crowd_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """However idle the loop is, and whoever comes meanwhile goes with them."""
    acts = _Acts()
    lull = Lull(acts, rest_s=0.005)
    timers = _held_timers(monkeypatch)
    lull.went(8)

    lull.come()
    await _turns(10)
    lull.come()
    await _turns(10)

    assert (acts.count, lull.waiting) == (0, True)
    ((wait_s, end),) = timers
    assert wait_s == 0.005
    end()
    assert (acts.count, lull.waiting) == (1, False)


async def test_a_crowd_of_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst leaves nothing behind for who comes later."""
    acts = _Acts()
    lull = Lull(acts, rest_s=0.005)
    timers = _held_timers(monkeypatch)
    now_s = [100.0]
    monkeypatch.setattr("core.lull.time.monotonic", lambda: now_s[0])
    lull.went(30)

    now_s[0] += 0.06
    lull.come()
    await _turns(5)

    assert (acts.count, timers) == (1, [])


def _held_timers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, _Callback]]:
    timers: list[tuple[float, _Callback]] = []

    def later(wait_s: float, callback: _Callback) -> None:
        timers.append((wait_s, callback))

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", later)
    return timers


def _no_timer(*_: object) -> None:
    raise AssertionError("a timer was set")
