"""Waiting ends in time, whatever the call does."""

import asyncio
import time

import pytest

from resilience.deadline import DEADLINE_S, half_the_time, left_s, within


class Stubborn:
    """A call that does not end when it is cancelled, like a query on a frozen server."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self) -> None:
        """Goes on until it is let go."""
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                continue
        self.ended.set()


async def test_a_quick_call_gives_its_result() -> None:
    """In time, the result or the error of the call comes through."""

    async def answer() -> int:
        return 7

    async def fail() -> int:
        raise KeyError

    assert await within(5, answer()) == 7
    with pytest.raises(KeyError):
        await within(5, fail())


async def test_a_call_that_cannot_be_cancelled_is_left_behind() -> None:
    """The caller is told in time although the call goes on."""
    stubborn = Stubborn()

    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            await within(0.01, stubborn())

    assert not stubborn.ended.is_set()
    stubborn.let_go.set()
    await stubborn.ended.wait()


async def test_a_caller_who_is_cancelled_goes_at_once() -> None:
    """Nobody waits for the call's own end, and it is told to end."""
    stubborn = Stubborn()
    caller = asyncio.create_task(within(5, stubborn()))
    await asyncio.sleep(0)
    caller.cancel()

    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await caller

    stubborn.let_go.set()
    await stubborn.ended.wait()


def test_half_the_time_is_half_of_what_is_left() -> None:
    """Inside; outside it is as before, and without a deadline there is nothing to halve."""
    with half_the_time():
        assert DEADLINE_S.get() is None
    end_s = time.monotonic() + 10
    token = DEADLINE_S.set(end_s)
    try:
        with half_the_time():
            assert 4.9 < left_s(60) <= 5
        assert DEADLINE_S.get() == end_s
    finally:
        DEADLINE_S.reset(token)
