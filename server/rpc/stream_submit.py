"""A stream of submissions: read in order, recorded side by side, acknowledged as they finish.

A reader task takes messages while fewer than UNACKNOWLEDGED_MAX submissions are unacknowledged,
puts each in line before it reads the next, and starts a task that waits for its results. A
submission counts until its answer was taken over by the transport, so a caller who does not read
answers stops the reading, and nothing piles up here. A full queue stops the reading too, and so
does a caller's own rate.

Whatever ends a stream early (a malformed message, a failed write, the worker's going away) only
stops the reading: what was read is finished and answered, and then the stream fails with the
first such reason. A caller who goes away gets no answers, but what was read is recorded all the
same: a write is never cancelled half-way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from core.errors import Draining, QueueFull, StandingsError
from core.submit_scores import SubmitResults, SubmitScores
from core.types import Submission
from server.drain import Drain
from server.identity.identity import ANONYMOUS, Identity
from server.identity.policy import Kind
from server.limits.accounts import Account
from server.rpc.codec.submissions import decode_submissions, put_submit_results
from standings.v1 import ranking_service_pb2 as pb

UNACKNOWLEDGED_MAX: Final = 4096
"""Submissions; a message is taken whole while the count is below it."""


class SubmitStream:
    """One stream, from its first message to its last acknowledgement."""

    def __init__(
        self,
        requests: AsyncIterator[pb.StreamSubmitScoresRequest],
        submit_scores: SubmitScores,
        new_submission_id: Callable[[], str],
        drain: Drain,
        caller: Identity = ANONYMOUS,
        account: Account | None = None,
    ) -> None:
        self._account = account
        self._caller = caller
        self._requests = requests
        self._submit_scores = submit_scores
        self._new_submission_id = new_submission_id
        self._drain = drain
        self._unacknowledged = 0
        self._room = asyncio.Event()
        self._room.set()
        self._failure: Exception | None = None
        # Answers, each with its number of submissions; None only wakes the writer.
        self._finished: asyncio.Queue[tuple[int, pb.StreamSubmitScoresResponse | None] | None]
        self._finished = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None

    async def answers(self) -> AsyncGenerator[pb.StreamSubmitScoresResponse, None]:
        """The acknowledgements. Raises the reason for an early end after the last one."""
        reader = self._reader = asyncio.create_task(self._read())
        reader.add_done_callback(lambda _: self._finished.put_nowait(None))
        unsubscribe = self._drain.subscribe(lambda: self._fail(Draining()))
        try:
            while self._unacknowledged or not reader.done():
                finished = await self._finished.get()
                if finished is None:
                    continue
                count, answer = finished
                if answer is not None:
                    yield answer
                self._acknowledge(count)
        finally:
            unsubscribe()
            reader.cancel()
            # What it reads from must not be closed under it.
            await asyncio.wait((reader,))
        if self._failure is not None:
            raise self._failure

    async def _read(self) -> None:
        try:
            while True:
                await self._room.wait()
                if self._account is not None:
                    await self._account.room(Kind.WRITES)
                request = await anext(self._requests, None)
                if request is None:
                    return
                if self._account is not None:
                    self._account.owe(Kind.WRITES, max(1, len(request.submissions)))
                items = decode_submissions(
                    request.submissions, self._new_submission_id, self._caller
                )
                pending = await self._enqueue(items)
                self._unacknowledged += len(items)
                if self._unacknowledged >= UNACKNOWLEDGED_MAX:
                    self._room.clear()
                self._drain.run(self._answer(request.sequence, len(items), pending))
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the stream
            self._fail(error)

    async def _enqueue(
        self, items: Sequence[Submission | StandingsError]
    ) -> Awaitable[SubmitResults]:
        while True:
            try:
                return await self._submit_scores.enqueue(items, source=self)
            except QueueFull:
                # To fail would only make the caller send everything again.
                await asyncio.sleep(QueueFull.retry_after_ms / 1000)

    async def _answer(self, sequence: int, count: int, pending: Awaitable[SubmitResults]) -> None:
        answer = None
        try:
            answer = _acknowledgement(sequence, await pending)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the stream
            self._fail(error)
        self._finished.put_nowait((count, answer))

    def _acknowledge(self, count: int) -> None:
        self._unacknowledged -= count
        if self._unacknowledged < UNACKNOWLEDGED_MAX:
            self._room.set()

    def _fail(self, error: Exception) -> None:
        """Stops the reading; the first reason is the one that is told."""
        if self._failure is None:
            self._failure = error
        if self._reader is not None:
            self._reader.cancel()


def _acknowledgement(sequence: int, done: SubmitResults) -> pb.StreamSubmitScoresResponse:
    answer = pb.StreamSubmitScoresResponse(
        sequence=sequence, consistency_token=done.consistency_token
    )
    put_submit_results(answer.results, done)
    return answer
