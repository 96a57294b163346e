"""Follows a board, for threads."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from threading import Condition, Lock, Thread
from typing import Final, Protocol

import grpc

from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings_client._environment import Environment
from standings_client._status import error_from_rpc
from standings_client._watch import Action, OpenWatches, Question, Watch
from standings_client._window import CLIENT_CLOSED
from standings_client.errors import StandingsError, Unavailable
from standings_client.sync.calls import Calls
from standings_client.types import WatchUpdate

_ENDED: Final = "the server ended the stream"


class _Stream(Protocol):
    """An open stream, as grpc gives it; grpc itself has no public name for the type."""

    def __iter__(self) -> Iterator[pb.WatchEntriesResponse]: ...

    def cancel(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the watches of one client have in common; `streams` has a connection of its own."""

    streams: pb_grpc.RankingServiceStub
    polls: pb_grpc.RankingServiceStub
    calls: Calls
    environment: Environment
    watches: OpenWatches


class Follower:
    """Does what a Watch plans: a thread reads the stream, the caller's own does the rest."""

    def __init__(self, shared: Shared, question: Question, watch: Watch) -> None:
        self._shared = shared
        self._question = question
        # Bound here, since a module may have lost its names by the time this is asked.
        self._is_finalizing = sys.is_finalizing
        self._call: _Stream | None = None
        self._reader: Thread | None = None
        # The lock in `news` guards these.
        self._watch = watch
        self._heard = False
        self._failure: Exception | None = None
        self._news = Condition(Lock())

    def updates(self) -> Generator[WatchUpdate, None, None]:
        """The updates; the stream is ended when the generator is closed."""
        try:
            self._shared.watches.add(self._watch)
            while True:
                with self._news:
                    update = self._watch.take()
                    finished = self._watch.finished
                if update is not None:
                    yield update
                elif finished:
                    return
                else:
                    self._step()
        finally:
            self._shared.watches.discard(self._watch)
            self._cancel()

    def _step(self) -> None:
        """Waits for news of the stream, or does what is due without any."""
        with self._news:
            action, delay_s = self._watch.plan()
            if self._call is not None and self._news.wait_for(self._has_news, delay_s):
                self._heard = False
                if self._failure is None:
                    return
                action = Action.LEAVE
        if self._call is None and delay_s > 0:
            self._shared.environment.sleep(delay_s)
        match action:
            case Action.OPEN:
                self._open()
            case Action.POLL:
                self._poll()
            case Action.LEAVE:
                self._break()

    def _has_news(self) -> bool:
        return self._heard or self._failure is not None

    def _open(self) -> None:
        try:
            self._call = call = self._shared.streams.WatchEntries(self._watch.opened())
        except ValueError as error:
            raise CLIENT_CLOSED from error
        reader = Thread(target=self._read, args=(call,), name="standings-watch", daemon=True)
        reader.start()
        # Not before: where it could not be started, nobody may wait for its end.
        self._reader = reader

    def _read(self, call: _Stream) -> None:
        failure: Exception = Unavailable(_ENDED)
        try:
            for message in call:
                with self._news:
                    self._watch.receive(message)
                    self._heard = True
                    self._news.notify_all()
        except grpc.RpcError as error:
            failure = error_from_rpc(error)
        except Exception as error:  # noqa: BLE001 - a fault of this client is raised to the caller
            failure = error
        with self._news:
            self._failure = failure
            self._news.notify_all()

    def _break(self) -> None:
        """Leaves a stream that failed or is silent. Raises what no other try mends."""
        failure = self._failure or self._watch.silent()
        self._cancel()
        if self._reader is not None:
            # What it still has to say is of this stream, not of the next.
            self._reader.join()
            self._reader = None
        self._failure = None
        if not isinstance(failure, StandingsError):
            raise failure
        self._watch.broke(failure)

    def _poll(self) -> None:
        calls, polls = self._shared.calls, self._shared.polls
        attempts = calls.begin(None)
        request = self._question.poll
        response: pb.ListEntriesResponse | pb.BatchGetEntriesResponse
        try:
            if isinstance(request, pb.ListEntriesRequest):
                response = calls.run(polls.ListEntries, request, attempts)
            else:
                response = calls.run(polls.BatchGetEntries, request, attempts)
        except ValueError as error:
            raise CLIENT_CLOSED from error
        except StandingsError as error:
            with self._news:
                self._watch.poll_failed(error)
            return
        with self._news:
            self._watch.polled(response)

    def _cancel(self) -> None:
        """Ends the stream, if one is open. Waits for nothing, since a collector may call it.

        It may do so on any thread, also on the reader's or on grpc's own, and at the end of the
        interpreter, when no other thread runs any more and every lock may be held for ever. The
        connection goes with the process then.
        """
        call, self._call = self._call, None
        if call is not None and not self._is_finalizing():
            # grpc keeps a call that nobody finishes for ever (grpc#43462).
            call.cancel()
