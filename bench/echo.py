"""A service without a product behind it: `python -m bench.echo`, started by bench/floors.py.

It answers each method with bytes that were given, over the product's own transport and in a process
like one of its workers. So it shows what a call costs before any of the product runs.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.empty_pb2 import Empty

from bootstrap.server_settings import ServerSettings
from server import event_loop
from server.rpc.call import CallContext
from server.rpc.chain import UnaryRoute
from server.rpc.methods import Method
from server.thread_scheduling import others_waiting
from server.transport.grpcio import GrpcioListener

_GRACE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Echoed:
    """What is said to a request of a method."""

    path: str
    request: bytes
    answer: bytes


def write_answers(path: Path, answers: Sequence[Echoed]) -> None:
    """Leaves answers in a file."""
    plain = [
        {"path": one.path, "request": _text(one.request), "answer": _text(one.answer)}
        for one in answers
    ]
    path.write_text(json.dumps(plain), encoding="ascii")


def read_answers(path: Path) -> Sequence[Echoed]:
    """The answers that were left in a file."""
    return [
        Echoed(one["path"], base64.b64decode(one["request"]), base64.b64decode(one["answer"]))
        for one in json.loads(path.read_text(encoding="ascii"))
    ]


def routes_of(answers: Sequence[Echoed]) -> Mapping[str, UnaryRoute]:
    """The methods that have an answer."""
    return {
        path: _route(path, [one for one in answers if one.path == path])
        for path in {one.path for one in answers}
    }


def _route(path: str, answers: Sequence[Echoed]) -> UnaryRoute:
    """A request that is known gets its own answer, which is how pages of two sizes are told apart;
    any other the first.
    """
    first = answers[0].answer
    by_request = {one.request: one.answer for one in answers}

    async def echo(request: bytes, _call: CallContext) -> bytes:
        return by_request.get(request, first)

    return UnaryRoute(
        Method(path, Empty, Empty, client_streaming=False, server_streaming=False, handler=echo),
        echo,
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


async def serve(address: str, answers: Sequence[Echoed]) -> None:
    """Answers until SIGTERM."""
    listener = GrpcioListener(routes_of(answers), ServerSettings(reuse_port=True))
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await listener.start(address)
    with others_waiting():
        await stopped.wait()
    await listener.stop(_GRACE_S)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.echo", description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--answers", type=Path, required=True)
    given = parser.parse_args()
    event_loop.run(serve(given.address, read_answers(given.answers)))
