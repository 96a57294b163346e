"""Follows a board, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

import grpc

from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings_client._environment import Environment
from standings_client._status import error_from_rpc
from standings_client._watch import Action, OpenWatches, Question, Watch
from standings_client._window import CLIENT_CLOSED
from standings_client.aio.calls import Calls
from standings_client.errors import StandingsError, Unavailable
from standings_client.types import WatchUpdate

_ENDED: Final = "the server ended the stream"

# In quotes: at run time the types of grpc take no parameters.
_Stream: TypeAlias = "grpc.aio.UnaryStreamCall[pb.WatchEntriesRequest, pb.WatchEntriesResponse]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the watches of one client have in common; `streams` has a connection of its own."""

    streams: pb_grpc.RankingServiceAsyncStub
    polls: pb_grpc.RankingServiceAsyncStub
    calls: Calls
    environment: Environment
    watches: OpenWatches


class Follower:
    """Does what a Watch plans: a task reads the stream, the caller's own does the rest."""

    def __init__(self, shared: Shared, question: Question, watch: Watch) -> None:
        self._shared = shared
        self._question = question
        self._watch = watch
        self._call: _Stream | None = None
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def updates(self) -> AsyncGenerator[WatchUpdate, None]:
        """The updates; the stream is gone when the generator is closed."""
        try:
            self._shared.watches.add(self._watch)
            while True:
                update = self._watch.take()
                if update is not None:
                    yield update
                elif self._watch.finished:
                    return
                else:
                    await self._step()
        finally:
            self._shared.watches.discard(self._watch)
            await self._leave()

    async def _step(self) -> None:
        """Waits for news of the stream, or does what is due without any."""
        action, delay_s = self._watch.plan()
        if self._reader is None:
            if delay_s > 0:
                await self._shared.environment.sleep_async(delay_s)
        elif await self._hears(self._reader, delay_s):
            if not self._reader.done():
                return
            action = Action.LEAVE
        match action:
            case Action.OPEN:
                self._open()
            case Action.POLL:
                await self._poll()
            case Action.LEAVE:
                await self._break()

    async def _hears(self, reader: asyncio.Task[None], delay_s: float) -> bool:
        if not reader.done():
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._news.wait()
        heard = self._news.is_set() or reader.done()
        self._news.clear()
        return heard

    def _open(self) -> None:
        try:
            self._call = call = self._shared.streams.WatchEntries(self._watch.opened())
        except grpc.aio.UsageError as error:
            raise CLIENT_CLOSED from error
        self._reader = asyncio.create_task(self._read(call), name="standings-watch")

    async def _read(self, call: _Stream) -> None:
        try:
            while isinstance(message := await call.read(), pb.WatchEntriesResponse):
                self._watch.receive(message)
                self._news.set()
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        finally:
            self._news.set()
        raise Unavailable(_ENDED)

    async def _break(self) -> None:
        """Leaves a stream that failed or is silent. Raises what no other try mends."""
        reader = self._reader
        failure: BaseException | None = None
        if reader is not None and reader.done():
            # Nobody but the client's own end cancels it.
            failure = CLIENT_CLOSED if reader.cancelled() else reader.exception()
        await self._leave()
        failure = failure or self._watch.silent()
        if failure is CLIENT_CLOSED or not isinstance(failure, StandingsError):
            raise failure
        self._watch.broke(failure)

    async def _poll(self) -> None:
        calls, polls = self._shared.calls, self._shared.polls
        attempts = calls.begin(None)
        request = self._question.poll
        response: pb.ListEntriesResponse | pb.BatchGetEntriesResponse
        try:
            if isinstance(request, pb.ListEntriesRequest):
                response = await calls.run(polls.ListEntries, request, attempts)
            else:
                response = await calls.run(polls.BatchGetEntries, request, attempts)
        except grpc.aio.UsageError as error:
            raise CLIENT_CLOSED from error
        except StandingsError as error:
            self._watch.poll_failed(error)
        else:
            self._watch.polled(response)

    async def _leave(self) -> None:
        call, reader = self._call, self._reader
        self._call = self._reader = None
        if call is not None:
            # grpc keeps a call that nobody finishes for ever (grpc#43462).
            call.cancel()
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
