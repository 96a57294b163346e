"""A watch over the wire: the messages of the core, until the caller or the worker goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from core.errors import Draining
from core.watch_entries import WatchEntries, WatchMessage
from server.drain import Drain
from server.rpc.call import CallContext
from server.rpc.codec import fields
from server.rpc.codec.watch import (
    decode_interval_ms,
    decode_options,
    decode_target,
    encode_message,
)
from standings.v1 import ranking_service_pb2 as pb


class WatchStream:
    """One watch, from its request to its end."""

    def __init__(
        self,
        request: pb.WatchEntriesRequest,
        watch_entries: WatchEntries,
        drain: Drain,
        call: CallContext,
    ) -> None:
        self._request = request
        self._watch_entries = watch_entries
        self._drain = drain
        self._caller = _host_of(call.peer)
        self._waiting: asyncio.Task[object] | None = None
        self._interrupted = False

    async def answers(self) -> AsyncGenerator[pb.WatchEntriesResponse, None]:
        """The messages. Raises Draining when the worker goes away, and what the core raises."""
        request = self._request
        messages = self._watch_entries(
            fields.board_id(request.board_id),
            decode_target(request),
            min_interval_ms=decode_interval_ms(request),
            resume_token=fields.token(request.resume_token, "resume_token"),
            options=decode_options(request),
            caller=self._caller,
        )
        unsubscribe = self._drain.subscribe(self._interrupt)
        try:
            async with aclosing(messages):
                while (message := await self._next(messages)) is not None:
                    yield encode_message(message)
        finally:
            unsubscribe()

    async def _next(self, messages: AsyncGenerator[WatchMessage, None]) -> WatchMessage | None:
        """The next message, None at the end. The wait for it ends with the worker."""
        if self._drain.started:
            raise Draining
        task = self._waiting = asyncio.current_task()
        if task is None:
            raise RuntimeError("calls run in tasks")
        cancelling = task.cancelling()
        try:
            return await anext(messages, None)
        except asyncio.CancelledError as error:
            if self._interrupted and task.uncancel() <= cancelling:
                raise Draining from error
            raise
        finally:
            self._waiting = None

    def _interrupt(self) -> None:
        # A message that waits to be taken is not cut off: the stream ends behind it.
        if self._waiting is not None:
            self._interrupted = True
            self._waiting.cancel()


def _host_of(peer: str) -> str:
    """A transport's "ipv4:host:port" without the port: a caller may open many connections."""
    return peer.rpartition(":")[0] or peer
