"""An operator's hand on a deployment: breakers and faults, through its admin listener."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration

from chaos.history import History, MarkKind
from standings.v1 import admin_service_pb2 as pb
from standings.v1 import admin_service_pb2_grpc as pb_grpc

REASON: Final = "a chaos run of this deployment"
ACTOR: Final = "chaos"
FORCED_OPEN: Final = "FORCED_OPEN"
FORCED_CLOSED: Final = "FORCED_CLOSED"
AUTO: Final = "AUTO"
_CALL_S: Final = 3.0
_LOOK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Admin:
    """Calls of an operator. They raise grpc.aio.AioRpcError."""

    stub: pb_grpc.AdminServiceAsyncStub

    async def set_breaker(
        self, history: History, name: str, mode: str, *, ttl_s: float = 0
    ) -> None:
        """Sets a mode, and notes it in the history with who did not follow in time."""
        request = pb.SetBreakerRequest(
            name=name,
            mode=pb.BreakerMode.Value(f"BREAKER_MODE_{mode}"),
            ttl=_span(ttl_s) if ttl_s else None,
            reason=REASON,
            actor=ACTOR,
        )
        asked_s = time.monotonic()
        answer = await self.stub.SetBreaker(request, timeout=_CALL_S)
        history.mark(
            MarkKind.OVERRIDE,
            time.monotonic(),
            asked_s=asked_s,
            name=name,
            mode=mode,
            ttl_s=ttl_s or float("inf"),
            laggards=list(answer.laggard_workers),
        )

    async def open_breakers(self) -> Sequence[str]:
        """The breakers that have opened by themselves in some worker."""
        answer = await self.stub.ListBreakers(pb.ListBreakersRequest(), timeout=_CALL_S)
        return [
            breaker.name
            for breaker in answer.breakers
            if any(worker.state == pb.BREAKER_STATE_OPEN for worker in breaker.workers)
        ]

    async def opened_after(self, beginning: str, *, timeout_s: float) -> float | None:
        """How long it takes from now until a breaker whose name begins so is open somewhere."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < timeout_s:
            if any(name.startswith(beginning) for name in await self.open_breakers()):
                return time.monotonic() - began_s
            await asyncio.sleep(_LOOK_S)
        return None

    async def forced(self) -> Sequence[str]:
        """The breakers that are forced now."""
        answer = await self.stub.ListBreakers(pb.ListBreakersRequest(), timeout=_CALL_S)
        auto = (pb.BREAKER_MODE_AUTO, pb.BREAKER_MODE_UNSPECIFIED)
        return [breaker.name for breaker in answer.breakers if breaker.mode not in auto]

    async def end_of(self, history: History, name: str, due_s: float) -> None:
        """Waits for the end of an override and notes when it was seen."""
        while True:
            if name not in await self.forced():
                break
            await asyncio.sleep(_LOOK_S)
        history.mark(
            MarkKind.OVERRIDE_ENDED, time.monotonic(), name=name, due_s=due_s, slack_s=2 * _LOOK_S
        )

    async def inject(
        self, target: str, kind: str, *, ttl_s: float, share: float = 1.0, latency_s: float = 0
    ) -> None:
        """Lets calls to a target fail, hang or take longer."""
        request = pb.InjectFaultRequest(
            target=target,
            kind=pb.FaultKind.Value(f"FAULT_KIND_{kind}"),
            probability=share,
            latency=_span(latency_s) if latency_s else None,
            ttl=_span(ttl_s),
            reason=REASON,
            actor=ACTOR,
        )
        await self.stub.InjectFault(request, timeout=_CALL_S)

    async def clear(self, history: History) -> None:
        """Takes every override and fault back."""
        await self.stub.ClearFaults(pb.ClearFaultsRequest(), timeout=_CALL_S)
        await self.set_breaker(history, "*", AUTO)


@asynccontextmanager
async def admin_of(address: str) -> AsyncIterator[Admin]:
    """The operator of a deployment."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield Admin(pb_grpc.AdminServiceStub(channel))


async def flip(admin: Admin, history: History, rng: random.Random, *, for_s: float) -> None:
    """Sets breakers to anything, again and again; whoever finds no worker tries the next time."""
    end_s = time.monotonic() + for_s
    while time.monotonic() < end_s:
        mode = rng.choice((AUTO, FORCED_OPEN, FORCED_CLOSED))
        name = rng.choice(("redis/*", "postgres/read", "postgres/write"))
        ttl_s = 0.0 if mode == AUTO else float(rng.randint(1, 3))
        try:
            await admin.set_breaker(history, name, mode, ttl_s=ttl_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        await asyncio.sleep(rng.uniform(0.1, 0.3))


def _span(seconds: float) -> Duration:
    span = Duration()
    span.FromMilliseconds(round(seconds * 1000))
    return span
