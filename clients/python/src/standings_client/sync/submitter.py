"""Many scores over one stream, for threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from threading import Condition, Lock, Thread
from types import TracebackType
from typing import Final, Protocol, Self, TypeAlias, Unpack

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

_Promise: TypeAlias = Future[SubmitResult]
# In quotes: at run time the types of grpc take no parameters.
_OpenStream: TypeAlias = (
    "grpc.StreamStreamMultiCallable[pb.StreamSubmitScoresRequest, pb.StreamSubmitScoresResponse]"
)


class _Stream(Protocol):
    """An open stream, as grpc gives it; grpc itself has no public name for the type."""

    def __iter__(self) -> Iterator[pb.StreamSubmitScoresResponse]: ...

    def cancel(self) -> bool: ...


class StreamSubmitter:
    """A context whose `submit` gives a future for each score; any thread may submit.

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
        self._in_flight_count_max = options.in_flight_count_max
        self._ids = ids
        self._environment = environment
        self._window: Window[_Promise] = Window(options, ids)
        self._progress = Progress(options, policy, environment)
        self._call: _Stream | None = None
        self._stream_number = 0
        self._closing = False
        # One lock guards all of the above; the conditions say what was waited for.
        self._lock = Lock()
        self._work = Condition(self._lock)
        self._room = Condition(self._lock)
        self._idle = Condition(self._lock)
        self._thread = Thread(target=self._run, name="standings-submitter", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, Exception):
            self.flush()
        self._end("the submitter was left before an answer")
        self._thread.join(timeout=_FAREWELL_S)
        if self._call is not None:
            self._call.cancel()
            self._thread.join(timeout=_FAREWELL_S)

    def submit(
        self, board_id: str, user_id: int, score: int, **options: Unpack[SubmitOptions]
    ) -> Future[SubmitResult]:
        """The future result of one score; waits while too many are unanswered.

        `options` are the further fields of Submission. The future raises StandingsError.
        """
        draft = draft_of(Submission(board_id, user_id, score, **options), self._ids)
        promise: _Promise = Future()
        # It is on its way: a cancel of the future could not bring it back.
        promise.set_running_or_notify_cancel()
        with self._lock:
            self._room.wait_for(self._has_room)
            if self._closing:
                raise RuntimeError("the submitter was left")
            if not len(self._window):
                self._progress.made()
            self._window.add(draft, promise)
            self._work.notify_all()
        return promise

    def flush(self) -> None:
        """Waits until every submission so far is answered or failed; raises nothing of them."""
        with self._lock:
            self._idle.wait_for(lambda: not len(self._window))

    def _has_room(self) -> bool:
        return self._closing or len(self._window) < self._in_flight_count_max

    def _has_duty(self) -> bool:
        return self._closing or self._window.has_work()

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            # Whatever ended it, a fault of this client too: nobody may wait for ever.
            self._end("the submitter has ended")

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._work.wait_for(self._has_duty)
                if self._closing:
                    return
            try:
                self._converse()
            except StandingsError as error:
                self._recover(error)

    def _converse(self) -> None:
        """Sends and reads on one stream until it ends.

        Raises what ended it, unless it was this side.
        """
        with self._lock:
            self._stream_number += 1
            messages = self._messages(self._stream_number)
        try:
            self._call = call = self._open_stream(messages)
        except ValueError as error:
            raise CLIENT_CLOSED from error
        failures: list[StandingsError] = []
        reader = Thread(target=self._read, args=(call, failures), daemon=True)
        reader.start()
        try:
            self._watch(reader)
        finally:
            # grpc keeps a call that nobody finishes for ever (grpc#43462).
            call.cancel()
            with self._lock:
                self._stream_number += 1
                self._work.notify_all()
            reader.join()
        if not self._closing:
            raise failures[0] if failures else Unavailable("the server ended the stream")

    def _watch(self, reader: Thread) -> None:
        """Waits for the reader's end, as long as there is progress. Raises Unavailable if not."""
        while reader.is_alive():
            with self._lock:
                if not len(self._window):
                    self._progress.made()
                patience_s = self._progress.patience_s()
            if patience_s <= 0:
                raise self._progress.stalled()
            reader.join(timeout=patience_s)

    def _messages(self, number: int) -> Iterator[pb.StreamSubmitScoresRequest]:
        """The messages of one stream; gRPC asks for the next when it has sent the one before."""
        while True:
            with self._lock:
                self._work.wait_for(lambda: self._stream_number != number or self._has_duty())
                if self._stream_number != number or self._closing:
                    return
                message = self._window.take()
            yield message

    def _read(self, call: _Stream, failures: list[StandingsError]) -> None:
        try:
            for response in call:
                with self._lock:
                    settled = self._window.acknowledge(response)
                    self._progress.made()
                    self._work.notify_all()
                    self._notify_settled()
                # Outside of the lock: a callback of the future may submit.
                _keep(settled)
        except grpc.RpcError as error:
            failures.append(error_from_rpc(error))

    def _recover(self, error: StandingsError) -> None:
        settled: list[Settled[_Promise]] = []
        with self._lock:
            self._window.rewind()
            if not len(self._window):
                return
            delay_s = self._progress.delay_s(error)
            if delay_s is None:
                settled = self._window.fail(final_error(error))
                self._notify_settled()
        _keep(settled)
        if delay_s is not None:
            self._environment.sleep(delay_s)

    def _notify_settled(self) -> None:
        self._room.notify_all()
        if not len(self._window):
            self._idle.notify_all()

    def _end(self, why: str) -> None:
        with self._lock:
            self._closing = True
            settled = self._window.fail(Cancelled(why))
            self._work.notify_all()
            self._notify_settled()
        _keep(settled)


def _keep(settled: Iterable[Settled[_Promise]]) -> None:
    for promise, result in settled:
        if isinstance(result, StandingsError):
            promise.set_exception(result)
        else:
            promise.set_result(result)
