"""WatchEntries: many watchers of one top while it changes, by gRPC's Python client.

ghz counts streams, not their messages. A score says when it was sent, so every message that shows
a new one tells how long it took.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration

from bench.driving import Groups, generated_here, watched
from bench.errors import BenchFailed
from bench.ghz import connections_of
from bench.requests import SCORE_MAX, Requests
from bench.samples import Sample, sample_of_times
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as pb_grpc

_INTERVAL_MS: Final = 100
"""The shortest that the contract allows."""
_WRITE_EVERY_S: Final = 0.05
_TOP_COUNT: Final = 10
_SNAPSHOT_S: Final = 20.0
_CALL_S: Final = 5.0


@dataclass(slots=True)
class _Watcher:
    """What one watcher was told, and when."""

    best: int = SCORE_MAX
    times_ms: list[float] = field(default_factory=list)
    began: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, answer: pb.WatchEntriesResponse) -> None:
        now_us = _now_us()
        newest = max((entry.score for entry in answer.entries), default=0)
        if self.began.is_set() and newest > self.best:
            self.times_ms.append((now_us - (newest - SCORE_MAX)) / 1000)
        self.best = max(self.best, newest)
        self.began.set()


@dataclass(frozen=True, slots=True)
class WatchDriver:
    """So many watchers under a steady trickle of new best scores. A call of its samples is a
    message to one of them; its time is from the submission to its arrival.
    """

    requests: Requests
    address: str
    watcher_count: int
    groups: Groups

    async def __call__(self, seconds: float) -> Sample:
        """One run. Raises grpc.aio.AioRpcError."""
        watchers = [_Watcher() for _ in range(self.watcher_count)]
        async with AsyncExitStack() as exit_stack:
            stubs = await self._connect(exit_stack)
            tasks = [
                asyncio.create_task(self._watch(stubs[place % len(stubs)], watcher))
                for place, watcher in enumerate(watchers)
            ]
            try:
                await _begun(watchers, tasks)
                # The change goes through a stub of its own connection, as a game server's would.
                sample = await watched(
                    self.groups,
                    lambda: generated_here(self._run(stubs[0], watchers, seconds)),
                )
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return sample

    async def _connect(
        self, exit_stack: AsyncExitStack
    ) -> Sequence[pb_grpc.RankingServiceAsyncStub]:
        options = (("grpc.use_local_subchannel_pool", 1),)
        return [
            pb_grpc.RankingServiceStub(
                await exit_stack.enter_async_context(
                    grpc.aio.insecure_channel(self.address, options=options)
                )
            )
            for _ in range(connections_of(self.watcher_count))
        ]

    async def _watch(self, stub: pb_grpc.RankingServiceAsyncStub, watcher: _Watcher) -> None:
        request = pb.WatchEntriesRequest(
            board_id=self.requests.board_id,
            top_count=_TOP_COUNT,
            min_interval=Duration(nanos=_INTERVAL_MS * 1_000_000),
        )
        async for answer in stub.WatchEntries(request):
            watcher.hear(answer)

    async def _run(
        self, stub: pb_grpc.RankingServiceAsyncStub, watchers: Sequence[_Watcher], seconds: float
    ) -> Sample:
        rng = random.Random(1)  # noqa: S311 - no secret
        started_s = time.monotonic()
        while (passed_s := time.monotonic() - started_s) < seconds:
            request = self.requests.submit_score()
            request.user_id = rng.randint(1, self.requests.entry_count)
            request.score = SCORE_MAX + _now_us()
            await stub.SubmitScore(request, timeout=_CALL_S)
            await asyncio.sleep(min(_WRITE_EVERY_S, max(0.0, seconds - passed_s)))
        times_ms = [one for watcher in watchers for one in watcher.times_ms]
        return sample_of_times(times_ms, time.monotonic() - started_s)


async def _begun(watchers: Sequence[_Watcher], tasks: Sequence[asyncio.Task[None]]) -> None:
    """Waits until every watcher knows the board. Raises BenchFailed, and what ended a watch."""
    begun = asyncio.gather(*(watcher.began.wait() for watcher in watchers))
    waits: set[asyncio.Future[Any]] = {begun, *tasks}
    done, _ = await asyncio.wait(waits, timeout=_SNAPSHOT_S, return_when=asyncio.FIRST_COMPLETED)
    if begun not in done:
        begun.cancel()
        for task in tasks:
            if task in done:
                task.result()
        raise BenchFailed("not every watcher was told what it watches")


def _now_us() -> int:
    """A clock that goes on between runs, so that later scores are better ones."""
    return time.monotonic_ns() // 1000
