"""What traces cost a worker: `make bench-traces RATIO=0.01`.

Three servers of one worker on the same stores, one that traces and two that do not, get the same
calls at the same rate at the same time, again and again. What is compared is the processor time of
the worker for each call, its exporting thread included: whatever else the machine does befalls all
three, and the second plain one shows how far two of the same kind lie apart.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from rich.console import Console
from rich.table import Table

from bench.boards import fill_through_server, make_board
from bench.contract import write_protoset
from bench.deployment import Deployment, Form
from bench.driving import Driver
from bench.ghz import Ghz, find_ghz
from bench.program import GHZ_FOLDER
from bench.requests import Requests
from bench.shapes import SHAPES, Shape
from bootstrap.embedded.ports import LOOPBACK, free_ports
from bootstrap.tracing.recording import RatioTracer
from chaos.serving import Servers
from core.clock import SystemClock
from core.submission_ids import SubmissionIds
from tests.fixtures.collector import collecting

_BOARD: Final = "bench-traces"
_ENTRIES: Final = 20_000
_CALLERS: Final = 32
_SHAPES: Final = ("SubmitScore", "GetEntry", "ListEntriesAround 10")
_RATE: Final = 150
"""Calls a second to each: well below what three of them can do on two cores."""
_WARM_S: Final = 2.0
_DECISIONS: Final = 300_000
_SUBMISSIONS: Final = 2_000
_WHOLE_S: Final = 30.0

Round = tuple[float, float, float]
"""us of a worker a call: without traces, without them once more, and with them."""


@asynccontextmanager
async def _server(deployment: Deployment, folder: Path, **settings: str) -> AsyncIterator[Servers]:
    public, admin, metrics = (f"{LOOPBACK}:{port}" for port in free_ports(3))
    environment = {
        "STANDINGS_POSTGRES_DSN": deployment.stack.postgres_dsn,
        "STANDINGS_REDIS_NODES": ",".join(deployment.stack.redis_nodes),
        "STANDINGS_SERVER_ADDRESS": public,
        "STANDINGS_SERVER_ADMIN_ADDRESS": admin,
        "STANDINGS_METRICS_ADDRESS": metrics,
        "STANDINGS_SERVER_WORKERS": "1",
        "STANDINGS_STATE_DIRECTORY": str(folder / "state"),
        "STANDINGS_SERVER_DRAIN_SETTLE_S": "0",
        **settings,
    }
    folder.mkdir()
    servers = Servers(environment, public, metrics, folder / "log")
    try:
        await servers.start()
        assert await servers.whole(1, timeout_s=_WHOLE_S)
        yield servers
    finally:
        await servers.stop()


async def _cpu_us(driver: Driver, seconds: float) -> float:
    sample = await driver(seconds)
    assert not sample.errors, sample.errors
    return 1_000_000 * sample.cpu_s["server"] / sample.calls


async def measure(ratio: float, rounds: int, seconds: float) -> Mapping[str, Sequence[Round]]:
    """The rounds of each kind of call."""
    program = await find_ghz(GHZ_FOLDER)
    taken: dict[str, list[Round]] = {}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="standings-bench-")))
        # The jobs run in the server of the deployment, which nobody calls.
        deployment = await stack.enter_async_context(Deployment(folder, Form(1, "grpcio")))
        collector = stack.enter_context(collecting())
        plain = await stack.enter_async_context(_server(deployment, folder / "plain"))
        again = await stack.enter_async_context(_server(deployment, folder / "again"))
        tracing = {
            "STANDINGS_TRACES_ENDPOINT": collector.endpoint,
            "STANDINGS_TRACES_RATIO": str(ratio),
        }
        traced = await stack.enter_async_context(_server(deployment, folder / "traced", **tracing))
        new_id = SubmissionIds(SystemClock())
        await make_board(plain.address, _BOARD)
        await fill_through_server(plain.address, _BOARD, _ENTRIES, new_id)
        write_protoset(folder / "protoset")
        ghz = Ghz(program, folder / "protoset")
        requests = Requests(_BOARD, _ENTRIES, random.Random(1), new_id)

        def driver(shape: Shape, servers: Servers) -> Driver:
            groups = {"server": servers.workers()}
            return Driver(
                ghz,
                folder,
                shape,
                requests,
                servers.address,
                _CALLERS,
                lambda: groups,
                rate=_RATE,
            )

        for shape in (shape for shape in SHAPES if shape.name in _SHAPES):
            sides = [driver(shape, servers) for servers in (plain, again, traced)]
            await asyncio.gather(*(side(_WARM_S) for side in sides))
            for _ in range(rounds):
                first, second, third = await asyncio.gather(
                    *(_cpu_us(side, seconds) for side in sides)
                )
                taken.setdefault(shape.name, []).append((first, second, third))
        spans = len(collector.spans)
    print(f"{spans:,} spans were collected")  # noqa: T201
    return taken


def print_alone() -> None:
    """What it takes in a loop of nothing else: to decide, and to make and encode the spans of a
    SubmitScore.
    """
    spans: list[ReadableSpan] = []

    class Kept(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            spans.append(span)

    never, always = (RatioTracer(Kept(), ratio, {}) for ratio in (0.0, 1.0))
    unsampled = {"traceparent": f"00-{1:032x}-{1:016x}-00"}
    for name, metadata in (("by chance", {}), ("by its caller", unsampled)):
        before_s = time.process_time()
        for _ in range(_DECISIONS):
            never.begin("a/b", metadata)
        took_us = 1_000_000 * (time.process_time() - before_s) / _DECISIONS
        print(f"not to be traced {name}: {took_us:.2f} us")  # noqa: T201
    before_s = time.process_time()
    for _ in range(_SUBMISSIONS):
        _submission(always)
    encode_spans(spans).SerializeToString()
    took_us = 1_000_000 * (time.process_time() - before_s) / _SUBMISSIONS
    print(f"to make and encode 6 spans: {took_us:.0f} us")  # noqa: T201


def _submission(tracer: RatioTracer) -> None:
    call = tracer.begin("standings.v1.RankingService/SubmitScore", {})
    assert call is not None
    call.note("standings.request_id", "0123456789abcdef")
    flush = call.child("flush", {"standings.flush.submissions": 12}, links=[call])
    flush.child("ledger record", {"db.system.name": "postgresql"}, remote=True).end()
    for port in range(3):
        node = {"db.system.name": "redis", "server.address": "127.0.0.1", "server.port": port}
        flush.child("FCALL apply", node, ago_s=0.003, remote=True).end(took_s=0.002)
    flush.note("standings.flush.seasons_missed", 0)
    flush.end()
    call.note("rpc.response.status_code", "OK")
    call.end()


def shown(taken: Mapping[str, Sequence[Round]], ratio: float) -> Table:
    """What each of the others takes more than the first: the median and the middle half."""
    table = Table(title=f"processor time of a worker a call, {ratio:.1%} of the calls traced")
    for column in ("call", "us", "two of a kind differ by", "traces add"):
        table.add_column(column, justify="left" if column == "call" else "right")
    for name, rounds in taken.items():
        table.add_row(
            name,
            f"{median(plain for plain, _, _ in rounds):.0f}",
            _more([again / plain for plain, again, _ in rounds]),
            # Beside the mean of two, which is less chance than one of them.
            _more([2 * traced / (plain + again) for plain, again, traced in rounds]),
        )
    return table


def _more(ratios: Sequence[float]) -> str:
    low, middle, high = (100 * (ratio - 1) for ratio in quantiles(ratios, n=4))
    return f"{middle:+.1f} % ({low:+.1f} to {high:+.1f})"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("ratio", type=float, nargs="?", default=0.01)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    print_alone()
    taken = asyncio.run(measure(options.ratio, options.rounds, options.seconds))
    Console().print(shown(taken, options.ratio))


if __name__ == "__main__":
    main()
