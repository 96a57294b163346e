"""Many scores over one stream, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self, TypeAlias, Unpack

import grpc

from standings.v1 import ranking_service_pb2 as pb
from standings_client._drafts import draft_of
from standings_client._environment import Environment
from standings_client._ids import SubmissionIds
from standings_client._retry import RetryPolicy
from standings_client._status import error_from_rpc
from standings_client._window import (
    CLIENT_CLOSED,
    Progress,
    Settled,
    StreamOptions,
    Window,
    final_error,
)
from standings_client.errors import Cancelled, StandingsError, Unavailable
from standings_client.types import Submission, SubmitOptions, SubmitResult

# How long a server may take to end a stream on which nothing is open any more.
_FAREWELL_S: Final = 1.0
# What grpc.aio tells instead of the server's status when a write meets the end of the stream. The
# status is lost; if it was one that a retry cannot mend, the next stream tells it again.
_LOST_STATUS: Final = "Internal error from Core"

_Promise: TypeAlias = asyncio.Future[SubmitResult]
# In quotes: at run time the types of grpc take no parameters.
_OpenStream: TypeAlias = (
    "grpc.aio.StreamStreamMultiCallable["
    "pb.StreamSubmitScoresRequest, pb.StreamSubmitScoresResponse]"
)
_Stream: TypeAlias = (
    "grpc.aio.StreamStreamCall[pb.StreamSubmitScoresRequest, pb.StreamSubmitScoresResponse]"
)


class StreamSubmitter:
    """An asynchronous context whose `submit` gives a future for each score.

    What queues up while a message is being sent makes the next message. A broken stream is opened
    again and the unanswered are sent anew, in order and under the same ids. Leaving the context
    waits until everything is answered.
    """

    def __init__(
        self,
        open_stream: _OpenStream,
        options: StreamOptions,
        policy: RetryPolicy,
        ids: SubmissionIds,
        environment: Environment,
    ) -> None:
        self._open_stream = open_stream
        self._ids = ids
        self._environment = environment
        self._window: Window[_Promise] = Window(options, ids)
        self._progress = Progress(options, policy, environment)
        self._closing = False
        self._room = asyncio.Semaphore(options.in_flight_count_max)
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="standings-submitter")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None or issubclass(kind, Exception):
                await self.flush()
        finally:
            self._closing = True
            self._keep(self._window.fail(Cancelled("the submitter was left before an answer")))
            self._work.set()
            if self._task is not None:
                await asyncio.wait({self._task}, timeout=_FAREWELL_S)
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)

    async def submit(
        self, board_id: str, user_id: int, score: int, **options: Unpack[SubmitOptions]
    ) -> asyncio.Future[SubmitResult]:
        """The future result of one score; waits while too many are unanswered.

        `options` are the further fields of Submission. The future raises StandingsError.
        """
        draft = draft_of(Submission(board_id, user_id, score, **options), self._ids)
        await self._room.acquire()
        if self._closing:
            self._room.release()
            raise RuntimeError("the submitter was left")
        promise: _Promise = asyncio.get_running_loop().create_future()
        if not len(self._window):
            self._progress.made()
            self._idle.clear()
        self._window.add(draft, promise)
        self._work.set()
        return promise

    async def flush(self) -> None:
        """Waits until every submission so far is answered or failed; raises nothing of them."""
        await self._idle.wait()

    async def _run(self) -> None:
        try:
            await self._serve()
        finally:
            # Whatever ended it, a fault of this client too: nobody may wait for ever.
            self._closing = True
            self._keep(self._window.fail(Cancelled("the submitter has ended")))

    async def _serve(self) -> None:
        while True:
            await self._work.wait()
            if self._closing:
                return
            try:
                await self._converse()
            except StandingsError as error:
                await self._recover(error)

    async def _converse(self) -> None:
        """Sends and reads on one stream until it ends.

        Raises what ended it, unless it was this side.
        """
        try:
            call = self._open_stream()
        except grpc.aio.UsageError as error:
            raise CLIENT_CLOSED from error
        reader = asyncio.create_task(self._read(call))
        writer = asyncio.create_task(self._write(call))
        try:
            await self._watch(reader)
        finally:
            # grpc keeps a call that nobody finishes for ever (grpc#43462).
            call.cancel()
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
        if not self._closing:
            if reader.cancelled():
                raise CLIENT_CLOSED
            reader.result()
            raise Unavailable("the server ended the stream")

    async def _watch(self, reader: asyncio.Task[None]) -> None:
        """Waits for the reader's end, as long as there is progress. Raises Unavailable if not."""
        while not reader.done():
            if not len(self._window):
                self._progress.made()
            patience_s = self._progress.patience_s()
            if patience_s <= 0:
                raise self._progress.stalled()
            await asyncio.wait({reader}, timeout=patience_s)

    async def _write(self, call: _Stream) -> None:
        """Sends what waits, one message after another. What breaks here, the reader tells."""
        while True:
            await self._work.wait()
            if self._closing:
                await call.done_writing()
                return
            while self._window.has_work():
                await call.write(self._window.take())
            self._work.clear()

    async def _read(self, call: _Stream) -> None:
        try:
            while isinstance(response := await call.read(), pb.StreamSubmitScoresResponse):
                settled = self._window.acknowledge(response)
                self._progress.made()
                if self._window.has_work():
                    self._work.set()
                self._keep(settled)
        except grpc.aio.AioRpcError as error:
            if error.details() == _LOST_STATUS:
                raise Unavailable("the stream broke while it was written to") from error
            raise error_from_rpc(error) from error

    async def _recover(self, error: StandingsError) -> None:
        self._window.rewind()
        if not len(self._window):
            self._work.clear()
            return
        delay_s = self._progress.delay_s(error)
        if delay_s is None:
            self._work.clear()
            self._keep(self._window.fail(final_error(error)))
            return
        await self._environment.sleep_async(delay_s)
        self._work.set()

    def _keep(self, settled: Iterable[Settled[_Promise]]) -> None:
        for promise, result in settled:
            self._room.release()
            if promise.done():
                # The caller no longer wants to know.
                continue
            if isinstance(result, StandingsError):
                promise.set_exception(result)
            else:
                promise.set_result(result)
        if not len(self._window):
            self._idle.set()
