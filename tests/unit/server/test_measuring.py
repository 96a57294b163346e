"""What is told of calls in progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf.empty_pb2 import Empty

from bootstrap.embedded.waiting import until
from server import metrics
from server.rpc.call import CallContext
from server.rpc.measuring import Measure
from server.rpc.methods import Method


async def test_calls_in_progress_are_told() -> None:
    """A moment later, those of all kinds together; and that they are over, however they end."""
    before = _in_progress()
    gate = asyncio.Event()

    async def unary(_request: bytes, _call: CallContext) -> bytes:
        await gate.wait()
        return b""

    async def stream(
        _requests: AsyncIterator[bytes], _call: CallContext
    ) -> AsyncGenerator[bytes, None]:
        await gate.wait()
        yield b""

    measure = Measure()
    measured = measure.unary(_method(unary), unary)
    tasks = [asyncio.ensure_future(measured(b"", _call())) for _ in range(2)]
    answers = measure.stream(_method(stream), stream)(_nothing(), _call())
    tasks.append(asyncio.ensure_future(_read(answers)))

    assert await until(_told(before + 3), timeout_s=5)

    tasks[0].cancel()
    gate.set()
    await asyncio.wait(tasks)
    assert await until(_told(before), timeout_s=5)


def _in_progress() -> float:
    """What the gauge says."""
    (family,) = metrics.IN_FLIGHT.collect()
    return family.samples[0].value


def _told(count: float) -> Callable[[], Awaitable[bool]]:
    async def is_told() -> bool:
        return _in_progress() == count

    return is_told


def _method(handler: Callable[..., Any]) -> Method:
    return Method(
        "/a.Service/Method",
        Empty,
        Empty,
        client_streaming=False,
        server_streaming=False,
        handler=handler,
    )


def _call() -> CallContext:
    return CallContext(None, {}, lambda: "test")


async def _nothing() -> AsyncIterator[bytes]:
    for never in ():
        yield never


async def _read(answers: AsyncIterator[bytes]) -> None:
    async for _ in answers:
        pass
