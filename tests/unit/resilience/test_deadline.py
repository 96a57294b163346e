"""Waiting ends in time, whatever the call does."""

import asyncio
import time
from contextvars import ContextVar

import pytest

from resilience.deadline import (
    DEADLINE_S,
    finishing,
    half_the_time,
    left_s,
    shared_context,
    within,
)


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


class Work:
    """Something that takes until it is let go, and says how it ended."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.ending = asyncio.Event()
        self.told = ""

    async def __call__(self) -> int:
        """The answer."""
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.told = "cancelled"
            # As a connection that needs some time to be good for others again.
            await self.ending.wait()
            raise
        self.told = "ended"
        return 7


async def test_what_has_begun_may_end_when_its_caller_goes() -> None:
    """The caller, who is cancelled, has gone when it has ended."""
    work = Work()
    caller = asyncio.create_task(finishing(30, work()))
    await asyncio.sleep(0)
    caller.cancel()
    _, waiting = await asyncio.wait({caller}, timeout=0)
    assert waiting
    work.let_go.set()

    with pytest.raises(asyncio.CancelledError):
        await caller

    assert work.told == "ended"


@pytest.mark.parametrize("impatient", [False, True])
async def test_what_does_not_end_in_its_grace_is_cancelled(impatient: bool) -> None:  # noqa: FBT001
    """As it is at once when its caller is cancelled again; and its end is waited for."""
    work = Work()
    caller = asyncio.create_task(finishing(30 if impatient else 0, work()))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.sleep(0)
    if impatient:
        caller.cancel()
    _, waiting = await asyncio.wait({caller}, timeout=0.01)
    assert waiting
    assert work.told == "cancelled"
    work.ending.set()

    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_who_stays_is_told_how_it_ended() -> None:
    """The answer, or the error."""

    async def fail() -> None:
        raise KeyError

    work = Work()
    work.let_go.set()
    assert await finishing(0, work()) == 7
    with pytest.raises(KeyError):
        await finishing(0, fail())


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
        with half_the_time(kept_s_max=1):
            assert 8.9 < left_s(60) <= 9
        with half_the_time(kept_s_max=8):
            assert 4.9 < left_s(60) <= 5
    finally:
        DEADLINE_S.reset(token)


def test_what_is_begun_for_many_has_some_time_of_its_own() -> None:
    """The deadline of who began it, unless that is too near; and nothing else of that caller."""
    other = ContextVar("other", default=0)
    other.set(1)
    assert DEADLINE_S not in shared_context(1)
    for seconds, least in ((10, 9.9), (0.1, 0.9)):
        token = DEADLINE_S.set(time.monotonic() + seconds)
        context = shared_context(1)
        DEADLINE_S.reset(token)
        assert least < context.run(left_s, 60) <= max(1, seconds)
        assert other not in context
