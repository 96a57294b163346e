"""The callers of a run: a steady mix of reads and writes, each attempt on record."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import random
import secrets
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final, Self

import grpc

from chaos.calls import AROUND, RANK, TOP, Call, Channels, Tried
from chaos.history import AFTERWARDS, OK, SUBMIT, History, Sent
from chaos.writes import BEST, INCREMENT

BOARDS: Final = {"chaos-best": BEST, "chaos-sum": INCREMENT}
"""What is played, with the operator of each; both best first from the top."""
SHARES: Final[Mapping[str, float]] = {TOP: 0.55, RANK: 0.25, AROUND: 0.05, SUBMIT: 0.15}
READ_S: Final = 0.3
_WRITE_S: Final = 0.8
_BATCH_SIZE: Final = 20
_ATTEMPTS_MAX: Final = 3
_BACKOFF_S: Final = 0.05
_BUDGET_SHARE: Final = 0.08
"""Retries per call, over time."""
_BUDGET_MAX: Final = 20.0
_BEAT_S: Final = 0.02
_LATE_S: Final = 0.01
_SETTLE_S: Final = 20.0
_SETTLE_CALL_S: Final = 5.0
_ZIPF: Final = 1.1
_RISE_PER_S: Final = 2_000
"""By how much better the scores get: else the best would soon be unbeatable."""
_RETRIED: Final = frozenset({"UNAVAILABLE", "CANCELLED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"})


@dataclass(frozen=True, slots=True)
class Population:
    """The users of a board, 1 to `count`; the first ones play far more than the others."""

    count: int

    def weights(self) -> Sequence[float]:
        """Cumulated, by user."""
        return list(itertools.accumulate((rank + 10) ** -_ZIPF for rank in range(self.count)))


class Players:
    """Chooses what is called next. The same seed chooses the same, but for the ids."""

    def __init__(
        self,
        populations: Mapping[str, Population],
        rng: random.Random,
        *,
        shares: Mapping[str, float] = SHARES,
        numbers: Iterator[int] | None = None,
        read_s: float = READ_S,
    ) -> None:
        self._kinds, self._shares = list(shares), list(shares.values())
        self._weights = {board: one.weights() for board, one in populations.items()}
        self._boards = tuple(populations)
        self._rng = rng
        self._numbers = numbers or itertools.count(1)
        self._read_s = read_s
        self._began_s = time.monotonic()

    def call(self) -> Call:
        """The next call."""
        (kind,) = self._rng.choices(self._kinds, self._shares)
        board = self._rng.choice(self._boards)
        if kind == SUBMIT:
            return Call(next(self._numbers), kind, board, _WRITE_S, sent=self._batch(board))
        return Call(next(self._numbers), kind, board, self._read_s, self._user(board))

    def _batch(self, board: str) -> tuple[Sent, ...]:
        users = {self._user(board): None for _ in range(_BATCH_SIZE)}
        return tuple(Sent(new_id(), user, self._score(board)) for user in users)

    def _user(self, board: str) -> int:
        weights = self._weights[board]
        return bisect.bisect(weights, self._rng.random() * weights[-1]) + 1

    def _score(self, board: str) -> int:
        if BOARDS[board] == INCREMENT:
            return self._rng.randrange(1, 100)
        return self._rng.randrange(200_000) + int((time.monotonic() - self._began_s) * _RISE_PER_S)


@dataclass(slots=True)
class Budget:
    """How many retries are left."""

    tokens: float = _BUDGET_MAX

    def earn(self) -> None:
        """A call begins."""
        self.tokens = min(_BUDGET_MAX, self.tokens + _BUDGET_SHARE)

    def take(self) -> bool:
        """Whether one more may be made."""
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class Load(AbstractAsyncContextManager["Load"]):
    """Calls at a steady rate, whatever becomes of them; entered it runs, left it stops.

    `rate` may be changed meanwhile. Whoever was not answered is asked again on leaving, with the
    same ids, until everybody knows what became of the submission.
    """

    channels: Channels
    players: Players
    history: History
    rate: float = 300.0
    in_flight_max: int = 1_500
    refused: int = 0
    """Calls that were not made, because so many were on their way."""
    budget: Budget = field(default_factory=Budget)
    _calls: set[asyncio.Task[None]] = field(default_factory=set)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _unknown: dict[int, Call] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        work = (self._run(), self._beat(), self._listen())
        self._tasks = [asyncio.create_task(each) for each in work]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tasks[0].cancel()
        if self._calls:
            await asyncio.wait(self._calls)
        try:
            if error is None:
                await self._settle()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def in_doubt(self) -> int:
        """Batches of which nobody knows what became of them."""
        return len(self._unknown)

    async def _run(self) -> None:
        due_s = time.monotonic()
        while True:
            due_s += 1 / self.rate
            wait_s = due_s - time.monotonic()
            if wait_s < -1:
                # The machine was elsewhere: nobody is helped by making up for it at once.
                due_s = time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if len(self._calls) >= self.in_flight_max:
                self.refused += 1
                continue
            task = asyncio.create_task(self._call(self.players.call()))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _beat(self) -> None:
        """Notes when this loop itself was late."""
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(_BEAT_S)
            self._note_lag(before_s + _BEAT_S)

    async def _listen(self) -> None:
        """Notes when gRPC told us late that a call had ended: by calls that nobody answers."""
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{silent.getsockname()[1]}") as channel:
                call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/none")
                while True:
                    before_s = time.monotonic()
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await call(b"", timeout=_BEAT_S, wait_for_ready=True)
                    self._note_lag(before_s + _BEAT_S)

    def _note_lag(self, due_s: float) -> None:
        now_s = time.monotonic()
        if now_s - due_s > _LATE_S:
            self.history.late.append((now_s, now_s - due_s))

    async def _call(self, call: Call) -> None:
        self.budget.earn()
        for number in itertools.count(1):
            tried = await self._try(call, number)
            if tried.attempt.result not in _RETRIED or number == _ATTEMPTS_MAX:
                break
            delay_s = _BACKOFF_S if tried.pushback_s is None else tried.pushback_s
            if delay_s < 0 or not self.budget.take():
                break
            await asyncio.sleep(delay_s)

    async def _try(self, call: Call, number: int) -> Tried:
        tried = await self.channels.attempt(call, number)
        self.history.attempts.append(tried.attempt)
        if call.kind == SUBMIT:
            if tried.attempt.result == OK:
                self._unknown.pop(call.number, None)
            else:
                self._unknown[call.number] = call
        return tried

    async def _settle(self) -> None:
        """Asks until nobody is left in doubt."""
        deadline_s = time.monotonic() + _SETTLE_S
        while self._unknown and time.monotonic() < deadline_s:
            for call in list(self._unknown.values()):
                again = replace(call, deadline_s=_SETTLE_CALL_S)
                tried = await self._try(again, AFTERWARDS)
                if tried.attempt.result != OK:
                    await asyncio.sleep(_BACKOFF_S)
                    break


def new_id() -> str:
    """A UUIDv7."""
    value = time.time_ns() // 1_000_000 << 80 | 0x7 << 76 | secrets.randbits(12) << 64
    return str(uuid.UUID(int=value | 0x2 << 62 | secrets.randbits(62)))


def new_history() -> History:
    """An empty one of this machine's clocks."""
    return History(wall_offset_s=time.time_ns() / 1e9 - time.monotonic())
