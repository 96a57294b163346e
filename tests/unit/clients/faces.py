"""A clock that moves only by sleeping, and both clients behind one face."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, Self

from standings_client import AsyncClient, Client, Environment


class FakeTime:
    """Time that passes only in `sleep`, which does not wait; `sleeps` in seconds."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.wall_ms = 1_750_000_000_000
        self.sleeps = []

    def sleep(self, delay_s: float) -> None:
        """Passes some time at once."""
        self.sleeps.append(delay_s)
        self.now_s += delay_s

    async def sleep_async(self, delay_s: float) -> None:
        """Passes some time at once."""
        self.sleep(delay_s)

    def environment(self) -> Environment:
        """An environment on this clock whose random spans are always the longest."""
        return Environment(
            monotonic_s=lambda: self.now_s,
            wall_ms=lambda: self.wall_ms,
            sleep=self.sleep,
            sleep_async=self.sleep_async,
            uniform=lambda _, high: high,
        )


class Either:
    """One face of both clients: every call is awaited, iterators come back as lists."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    async def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Calls a method, such as `submit_score` or `boards.get`."""
        target = self.client
        for part in name.split("."):
            target = getattr(target, part)
        if isinstance(self.client, Client):
            result = await asyncio.to_thread(target, *arguments, **options)
            return await asyncio.to_thread(list, result) if inspect.isgenerator(result) else result
        result = target(*arguments, **options)
        if inspect.isasyncgen(result):
            return [item async for item in result]
        return await result


class Watching:
    """One face of both clients' watches; leaving the context closes the iterator."""

    def __init__(self, client: Either, board_id: str, **question: Any) -> None:
        self.iterator = client.client.watch_entries(board_id, **question)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def next(self) -> Any:
        """The next update; None at the end."""
        if inspect.isgenerator(self.iterator):
            return await asyncio.to_thread(next, self.iterator, None)
        return await anext(self.iterator, None)

    async def close(self) -> None:
        """Closes the iterator."""
        if inspect.isgenerator(self.iterator):
            await asyncio.to_thread(self.iterator.close)
        else:
            await self.iterator.aclose()
