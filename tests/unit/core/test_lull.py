"""Who goes together: by turns of the loop, or by a timer that is held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
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
    assert await _went(lull, 7) == 7
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", _no_timer)

    lull.come()
    # An idle loop's turns take microseconds; a slow moment of the machine only adds some.
    while lull.waiting:
        await _turns(1)

    assert acts.count == 2


async def test_who_comes_right_after_a_crowd_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """However idle the loop is, and whoever comes meanwhile goes with them."""
    acts = _Acts()
    lull = Lull(acts, rest_s=0.005)
    await _went(lull, 8)
    timers = _held_timers(monkeypatch)

    lull.come()
    await _turns(10)
    lull.come()
    await _turns(10)

    assert (acts.count, lull.waiting) == (1, True)
    (timer,) = timers
    assert timer.wait_s == 0.005
    timer.callback()
    assert (acts.count, lull.waiting) == (2, False)


async def test_nobody_waits_when_most_of_those_answered_are_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seven of eight, beside the one that was there; who comes in the same turn goes as well."""
    acts = _Acts()
    lull = Lull(acts, rest_s=0.005)
    await _went(lull, 8)
    timers = _held_timers(monkeypatch)
    lull.come()

    lull.answered(8)
    for _ in range(6):
        lull.come()
    await _turns(5)
    assert (acts.count, lull.waiting) == (1, True)
    lull.come()
    assert lull.waiting
    await _turns(1)

    assert (acts.count, lull.waiting, timers[-1].cancelled) == (2, False, True)


@pytest.mark.parametrize(("answered", "waited_for"), [(7, 7), (8, 7), (31, 30), (32, 30), (64, 60)])
async def test_most_are_all_but_one_of_sixteen(
    monkeypatch: pytest.MonkeyPatch, answered: int, waited_for: int
) -> None:
    """And but one of eight or more."""
    acts = _Acts()
    lull = Lull(acts, rest_s=0.005)
    await _went(lull, 64)
    _held_timers(monkeypatch)

    lull.answered(answered)
    for _ in range(waited_for - 1):
        lull.come()
    await _turns(5)
    assert lull.waiting
    lull.come()
    await _turns(1)

    assert (acts.count, lull.waiting) == (2, False)


async def test_the_time_begins_anew_when_a_crowd_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not what is left of the time of one who came meanwhile; for a few it is."""
    acts = _Acts()
    lull = Lull(acts, rest_s=0.005, anew=True)
    await _went(lull, 8)
    timers = _held_timers(monkeypatch)
    lull.come()

    lull.answered(7)
    assert len(timers) == 1
    lull.answered(8)

    assert [timer.cancelled for timer in timers] == [True, False]
    assert timers[1].wait_s == 0.005
    timers[1].callback()
    assert (acts.count, lull.waiting) == (2, False)


async def test_the_time_does_not_begin_anew_for_callers_who_do_not_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three crowds in a row that were waited for in vain; one that came in time makes it good."""
    lull = Lull(_Acts(), rest_s=0.005, anew=True)
    await _went(lull, 8)
    timers = _held_timers(monkeypatch)

    for _ in range(3):
        assert _waits_anew(lull, timers)
        timers[-1].callback()
        lull.went()
    assert not _waits_anew(lull, timers)
    for _ in range(7):
        lull.come()
    await _turns(1)
    lull.went()

    assert _waits_anew(lull, timers)


@pytest.mark.parametrize(("anew", "after_s"), [(False, 0.0501), (True, 0.0251)])
async def test_who_comes_after_that_time_waits_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
    *,
    anew: bool,
    after_s: float,
) -> None:
    """It is over some time after a crowd went; where it begins anew, some ms after its answer."""
    acts = _Acts()
    lull = Lull(acts, rest_s=0.005, anew=anew)
    timers = _held_timers(monkeypatch)
    now_s = [100.0]
    monkeypatch.setattr("core.lull.time.monotonic", lambda: now_s[0])
    await _went(lull, 30)
    now_s[0] += 0.02
    lull.answered(30)

    now_s[0] += after_s - 0.02
    lull.come()
    await _turns(5)

    assert (acts.count, timers) == (2, [])


async def test_who_comes_late_in_that_time_waits_for_the_rest_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which is as long as was said last."""
    lull = Lull(_Acts(), rest_s=0.005, anew=True)
    timers = _held_timers(monkeypatch)
    now_s = [100.0]
    monkeypatch.setattr("core.lull.time.monotonic", lambda: now_s[0])
    await _went(lull, 30)
    lull.rest_s = 0.008
    lull.answered(30)

    now_s[0] += 0.006
    lull.come()

    assert [timer.wait_s for timer in timers] == [pytest.approx(0.002)]


def _waits_anew(lull: Lull, timers: list[_Timer]) -> bool:
    """Whether the time of a crowd that is there begins anew when another one is answered."""
    for _ in range(8):
        lull.come()
    before = len(timers)
    lull.answered(8)
    return len(timers) > before


async def _went(lull: Lull, count: int) -> int:
    """So many come and go together."""
    for _ in range(count):
        lull.come()
    while lull.waiting:
        await _turns(1)
    return lull.went()


@dataclass
class _Timer:
    """What is to be called, after how long, and whether no more."""

    wait_s: float
    callback: _Callback
    cancelled: bool = False

    def cancel(self) -> None:
        """As a TimerHandle is cancelled."""
        self.cancelled = True


def _held_timers(monkeypatch: pytest.MonkeyPatch) -> list[_Timer]:
    timers: list[_Timer] = []

    def later(wait_s: float, callback: _Callback) -> _Timer:
        timers.append(_Timer(wait_s, callback))
        return timers[-1]

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", later)
    return timers


def _no_timer(*_: object) -> None:
    raise AssertionError("a timer was set")
