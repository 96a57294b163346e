"""One connection to a node, shared by every caller.

Redis answers in the order of the commands, so a queue of waiting calls is all the bookkeeping
there is: no checkout, no pool to exhaust, and one system call carries whatever the callers of one
turn of the event loop have to send. A caller that gives up leaves its place in the queue, so its
answer is dropped when it comes and never read by somebody else.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from hiredis import ProtocolError, Reader, pack_command

from sharding.library import Command
from sharding.replies import Answer, NodeBusy, NodeLost, Reply
from sharding.slot_map import Address

# Its stub knows only commands of one word.
_pack: Callable[[Command], bytes] = pack_command  # type: ignore[assignment]
_NOTHING: Final = object()
_WRITE_BUFFER_BYTES_MAX: Final = 4 * 2**20
"""What a node may be behind in reading before further calls are refused."""


@dataclass(slots=True)
class _Call:
    future: asyncio.Future[Answer | NodeLost]
    expected: int
    sent_at: float
    replies: Answer = field(default_factory=Answer)


class NodeConnection(asyncio.Protocol):
    """A pipelined connection. Open it with `NodeConnection.open`."""

    def __init__(self, *, response_timeout_s: float, pending_calls_max: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._response_timeout_s = response_timeout_s
        self._pending_calls_max = pending_calls_max
        self._reader = Reader(notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None
        self._pending: deque[_Call] = deque()
        self._outgoing: list[bytes] = []
        self._unsent: list[_Call] = []
        self._congested = False
        self._watchdog: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._closed: asyncio.Future[None] = self._loop.create_future()

    @classmethod
    async def open(
        cls,
        address: Address,
        *,
        tls: ssl.SSLContext | None,
        response_timeout_s: float,
        pending_calls_max: int,
    ) -> NodeConnection:
        """A connection to a node. Raises OSError when there is none to be had."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: cls(response_timeout_s=response_timeout_s, pending_calls_max=pending_calls_max),
            address.host,
            address.port,
            ssl=tls,
        )
        return connection

    @property
    def usable(self) -> bool:
        """Whether calls can still be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def pending_count(self) -> int:
        """Calls that wait for an answer."""
        return len(self._pending)

    def send(self, commands: Sequence[Command]) -> asyncio.Future[Answer | NodeLost]:
        """Sends commands with nothing between them; their replies, in order, come together.

        The future never fails: errors are replies, and a lost node is one as well. Cancelling it
        does not take the commands back.
        """
        future: asyncio.Future[Answer | NodeLost] = self._loop.create_future()
        if not self.usable:
            future.set_result(NodeLost("the connection is closed"))
        elif self._congested or len(self._pending) >= self._pending_calls_max:
            future.set_result(NodeBusy("too many calls wait for this node"))
        else:
            if not self._outgoing:
                # After the callers that run in this turn, so that they share a system call.
                self._loop.call_soon(self._flush)
            self._outgoing.extend(_pack(command) for command in commands)
            call = _Call(future, len(commands), self._loop.time())
            self._pending.append(call)
            self._unsent.append(call)
            if self._watchdog is None:
                self._watchdog = self._loop.call_later(self._response_timeout_s, self._watch)
        return future

    def abort(self) -> None:
        """Closes at once; whatever waits is lost."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Returns when the socket is gone and everything that waited has its answer."""
        await asyncio.shield(self._closed)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        # A cast and no check: the transports of other event loops do not inherit from it.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: hands each complete reply to the oldest call."""
        self._heard_at = self._loop.time()
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _NOTHING:
                self._accept(reply)
        except (ProtocolError, IndexError):
            # Not Redis, or a reply that nobody asked for: no later answer can be trusted.
            self.abort()

    def pause_writing(self) -> None:
        """Called by the event loop when the node does not keep up."""
        self._congested = True

    def resume_writing(self) -> None:
        """Called by the event loop when it does again."""
        self._congested = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop, once: everything that waits is lost."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        lost = NodeLost("the connection was lost")
        lost.__cause__ = exc
        while self._pending:
            call = self._pending.popleft()
            if not call.future.done():
                call.future.set_result(lost)
        self._closed.set_result(None)

    def _accept(self, reply: Reply) -> None:
        call = self._pending[0]
        call.replies.append(reply)
        if len(call.replies) == call.expected:
            self._pending.popleft()
            call.replies.took_s = self._heard_at - call.sent_at
            if not call.future.done():
                call.future.set_result(call.replies)

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()
        # The node's time begins now, however long the loop took to come here.
        now_s = self._loop.time()
        for call in self._unsent:
            call.sent_at = now_s
        self._unsent.clear()

    def _watch(self) -> None:
        """Closes the connection when calls wait and nothing has come for too long.

        Answers come in order, so one that does not come holds up all the others: only a new
        connection can help them. A node that answers late but steadily is left alone, because
        sending everything again would be more of what slows it down.
        """
        self._watchdog = None
        if not self._pending:
            return
        due = max(self._pending[0].sent_at, self._heard_at) + self._response_timeout_s
        if due <= self._loop.time():
            self.abort()
        else:
            self._watchdog = self._loop.call_at(due, self._watch)
