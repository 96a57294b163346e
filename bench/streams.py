"""StreamSubmitScores: one stream with several messages unacknowledged, by gRPC's Python client.

ghz sends the same messages on every stream, so a second one would find its ids taken.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import grpc

from bench.boards import require_recorded
from bench.driving import Groups, generated_here, watched
from bench.requests import Requests
from bench.samples import Sample, sample_of_times
from bench.shapes import Shape
from standings.v1 import ranking_service_pb2 as pb

UNACKNOWLEDGED_MAX: Final = 8
_MESSAGES_PER_S: Final = 80
"""More than anybody expects."""


@dataclass(frozen=True, slots=True)
class StreamDriver:
    """One stream under load. A call of its samples is a message."""

    shape: Shape
    requests: Requests
    address: str
    groups: Groups

    async def __call__(self, seconds: float) -> Sample:
        """One run. Raises BenchFailed where a submission is refused."""
        count = max(1, round(_MESSAGES_PER_S * seconds))
        messages = [self.requests.stream_submit_scores() for _ in range(count)]
        return await watched(self.groups, lambda: generated_here(self._run(messages, seconds)))

    async def _run(
        self, messages: Sequence[pb.StreamSubmitScoresRequest], seconds: float
    ) -> Sample:
        packed = {message.sequence: message.SerializeToString() for message in messages}
        window = asyncio.Semaphore(UNACKNOWLEDGED_MAX)
        sent_s: dict[int, float] = {}
        started_s = time.monotonic()

        async def sending() -> AsyncIterator[bytes]:
            for sequence, message in packed.items():
                await window.acquire()
                if time.monotonic() - started_s > seconds:
                    return
                sent_s[sequence] = time.monotonic()
                yield message

        times_ms: list[float] = []
        async with grpc.aio.insecure_channel(self.address) as channel:
            method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
                self.shape.path
            )
            async for data in method(sending()):
                answer = pb.StreamSubmitScoresResponse.FromString(data)
                times_ms.append(1000 * (time.monotonic() - sent_s[answer.sequence]))
                window.release()
                require_recorded(answer.results)
        return sample_of_times(times_ms, time.monotonic() - started_s)
