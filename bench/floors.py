"""The processes that answer without a product behind them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from bench.echo import Echoed, write_answers
from bench.errors import BenchFailed
from bench.transports import TRANSPORTS
from bootstrap.embedded.child import Child, Command
from bootstrap.embedded.ports import LOOPBACK, free_ports
from bootstrap.embedded.waiting import until
from bootstrap.settings import apart

_START_S: Final = 15.0
_STOP_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Echo:
    """Where it listens, host:port, and its processes."""

    address: str
    pids: Sequence[int]


@asynccontextmanager
async def echoing(
    folder: Path, transport: str, worker_count: int, answers: Sequence[Echoed]
) -> AsyncIterator[Echo]:
    """So many processes that share a port, as the product's workers do. Raises BenchFailed."""
    answers_file = folder / "answers.json"
    write_answers(answers_file, answers)
    address = f"{LOOPBACK}:{free_ports(1)[0]}"
    echo = TRANSPORTS[transport].echo
    async with AsyncExitStack() as exit_stack:
        children = []
        for number in range(worker_count):
            command = apart(echo(address, answers_file, folder / f"echo-{number}"))
            child = Child(Command(command, folder / "echo.log", signal.SIGKILL))
            exit_stack.push_async_callback(child.stop, signal.SIGTERM, timeout_s=_STOP_S)
            children.append(child)
        if not await _answers(address, answers[0].path):
            raise BenchFailed(f"the echo did not start; {children[0].log_tail()}")
        yield Echo(address, [child.pid for child in children])


async def answer_of(address: str, path: str, request: bytes) -> bytes:
    """The bytes that a method answers with. Raises grpc.aio.AioRpcError."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        return await call(request, timeout=5)


async def _answers(address: str, path: str) -> bool:
    async def answered() -> bool:
        try:
            await answer_of(address, path, b"")
        except grpc.aio.AioRpcError:
            return False
        return True

    if not await until(answered, timeout_s=_START_S):
        return False
    # The others were started at the same time and are as far.
    await asyncio.sleep(0.5)
    return True
