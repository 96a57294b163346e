"""Calls as their callers make them, whole or spoilt, each with a status in the end."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import grpc

from chaos.soak.tally import End, Tally
from standings.v1 import ranking_service_pb2_grpc as pb_grpc

OK: Final = "OK"
DETAILS: Final = "grpc-status-details-bin"
PATIENT_S: Final = 20.0
"""The deadline of who means to have an answer."""
_OVERTIME_S: Final = 10.0
"""After its deadline a call has to be over."""
_LINES: Final = 6
_CANCEL_S_MAX: Final = 0.02
_TIGHT_S_MAX: Final = 0.008
_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    # Each channel a connection of its own.
    ("grpc.use_local_subchannel_pool", 1),
    # A caller who does not read takes no more than a stream's window.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class Mood(Enum):
    """What a caller is; with what its calls may end, beside OK."""

    PATIENT = "patient"
    FICKLE = "fickle"
    """Cancels after some milliseconds."""
    HASTY = "hasty"
    """Has a deadline of some milliseconds."""
    CUT_OFF = "cut off"
    """Its connection is reset by somebody between it and the server, now and then."""


UNSENT: Final = "UNSENT"
"""No code: grpc's own library was given up on while it wrote, and knows of no status."""
_UNSENT_MESSAGE: Final = "Internal error from Core"

CODES: Final[dict[Mood, Collection[str]]] = {
    Mood.PATIENT: {OK},
    Mood.FICKLE: {OK, "CANCELLED", UNSENT},
    Mood.HASTY: {OK, "DEADLINE_EXCEEDED", UNSENT},
    Mood.CUT_OFF: {OK, "UNAVAILABLE", UNSENT},
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one call gets, and after how long it is given up; None: never."""

    timeout_s: float = PATIENT_S
    cancel_s: float | None = None


class Lines:
    """Some connections to one address, used in turn."""

    def __init__(self, address: str, count: int) -> None:
        self._channels = [
            grpc.aio.insecure_channel(address, options=_OPTIONS) for _ in range(count)
        ]
        self._stubs: Sequence[pb_grpc.RankingServiceAsyncStub] = [
            pb_grpc.RankingServiceStub(channel) for channel in self._channels
        ]
        self._turns = itertools.cycle(self._stubs)

    def stub(self) -> pb_grpc.RankingServiceAsyncStub:
        """One on the next connection."""
        return next(self._turns)

    async def close(self) -> None:
        """Ends them."""
        for channel in self._channels:
            await channel.close()


@dataclass(slots=True)
class Calling:
    """Callers of every mood, once there are lines. `cut_off`: lines through somebody who cuts
    them.
    """

    rng: random.Random
    tally: Tally
    lines: Lines | None = None
    cut_off: Lines | None = None

    @asynccontextmanager
    async def connected(self, address: str, cut_off_address: str) -> AsyncIterator[None]:
        """On new connections, which are gone afterwards."""
        self.lines = Lines(address, _LINES)
        self.cut_off = Lines(cut_off_address, _LINES)
        try:
            yield
        finally:
            await self.lines.close()
            await self.cut_off.close()

    def limits(self, mood: Mood) -> Limits:
        """What a caller of that mood grants its next call."""
        if mood is Mood.FICKLE:
            return Limits(cancel_s=self.rng.uniform(0, _CANCEL_S_MAX))
        if mood is Mood.HASTY:
            return Limits(timeout_s=self.rng.uniform(0, _TIGHT_S_MAX))
        return Limits()

    def stub(self, mood: Mood) -> pb_grpc.RankingServiceAsyncStub:
        """Where a caller of that mood calls."""
        lines = self.cut_off if mood is Mood.CUT_OFF else self.lines
        if lines is None:
            raise RuntimeError("there are no connections")
        return lines.stub()

    async def ask(
        self,
        method: str,
        request: Any,  # noqa: ANN401 - every kind of message
        mood: Mood = Mood.PATIENT,
    ) -> Any | None:  # noqa: ANN401 - every kind of message
        """The answer of one unary call; None without one."""
        limits = self.limits(mood)
        call = getattr(self.stub(mood), method)(request, timeout=limits.timeout_s)
        answer, end = await self.end_of(call, limits, f"{method} of a caller who is {mood.value}")
        self.tally.ended(mood.value, method, end, CODES[mood])
        return answer

    async def end_of(
        self,
        call: grpc.aio.UnaryUnaryCall[Any, Any],
        limits: Limits,
        name: str,
    ) -> tuple[Any | None, End]:
        """(the answer if there is one, the end) of a call."""
        giving_up = None
        if limits.cancel_s is not None:
            giving_up = asyncio.get_running_loop().call_later(limits.cancel_s, call.cancel)
        try:
            async with asyncio.timeout(limits.timeout_s + _OVERTIME_S):
                return await call, End(OK)
        except grpc.aio.AioRpcError as error:
            return None, end_of(error)
        except asyncio.CancelledError:
            if giving_up is None or not call.cancelled():
                raise
            return None, End("CANCELLED")
        except TimeoutError:
            self.tally.wrong(f"{name} has not ended")
            return None, End("none")
        finally:
            if giving_up is not None:
                giving_up.cancel()
            call.cancel()


def end_of(error: grpc.aio.AioRpcError) -> End:
    """How a call ended that failed."""
    message = error.details() or ""
    if message == _UNSENT_MESSAGE:
        return End(UNSENT, message)
    trailers = dict(iter(error.trailing_metadata() or ()))
    return End(error.code().name, message, explained=DETAILS in trailers)
