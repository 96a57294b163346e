"""What `standings bench` does, from the first process to the last figure."""

from __future__ import annotations

import random
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import grpc
import psycopg

from bench import raw_batches
from bench.boards import (
    drop_board,
    fill_through_server,
    make_board,
    prove_batches,
    token_of,
)
from bench.contract import write_protoset
from bench.deployment import POSTGRES_SETTINGS, Deployment, Form
from bench.driving import Measure
from bench.errors import BenchFailed
from bench.figures import Facts, Results
from bench.floors import echoing
from bench.ghz import Ghz, find_ghz
from bench.machine import is_valkey, machine_of, stores_of
from bench.planning import Plan
from bench.raw_batches import RawBatches
from bench.raw_nodes import RawNodes
from bench.requests import Requests
from bench.rounds import Key, Kind, interleaved
from bench.samples import Median
from bench.shapes import BATCH_GET, BATCH_SUBMIT
from bench.subjects import UNITS, Played, Site, answers_of, growth, half_loads, headline
from bootstrap.embedded.errors import EmbeddedError
from chaos.boards import fill_past_server
from core.clock import SystemClock
from core.submission_ids import SubmissionIds
from server.admin_client import AdminCallFailed

GHZ_FOLDER: Final = Path(".standings/bin")
"""Where ghz is looked for beside PATH, and installed."""
_TROUBLE: Final = (
    EmbeddedError,
    AdminCallFailed,
    grpc.aio.AioRpcError,
    psycopg.Error,
    RuntimeError,
)
"""What a deployment that does not do what it should ends with."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run: what to measure, on what, and whom to tell how far it is."""

    plan: Plan
    form: Form
    echo: Callable[[str], object]


async def play(wanted: Wanted) -> Results:
    """Measures a deployment of its own beside its floors. Raises BenchFailed."""
    plan, form = wanted.plan, wanted.form
    program = await find_ghz(GHZ_FOLDER)
    with tempfile.TemporaryDirectory(prefix="standings-bench-") as name:
        folder = Path(name)
        try:
            stores = stores_of(form.engine, POSTGRES_SETTINGS)
            about = {**machine_of(program), **stores, **_about(plan)}
            async with Deployment(folder, form) as deployment:
                wanted.echo(f"the server is ready after {deployment.ready_s:.2f} s")
                results = await _measured(deployment, wanted, program, folder)
        except _TROUBLE as error:
            raise BenchFailed(f"the deployment cannot be used: {_told(error)}") from error
        about |= {"workers": str(form.worker_count), "transport": form.transport}
        return replace(results, about=about, valkey=is_valkey(form.engine))


async def play_on(address: str, wanted: Wanted) -> Results:
    """Measures a deployment that somebody else runs, on a board made for it. Its floors would have
    to stand beside it, so there are none. Raises BenchFailed.
    """
    plan = wanted.plan
    program = await find_ghz(GHZ_FOLDER)
    requests = _requests(f"bench-{secrets.token_hex(4)}", plan.entries)
    with tempfile.TemporaryDirectory(prefix="standings-bench-") as name:
        try:
            await make_board(address, requests.board_id)
            try:
                wanted.echo(f"filling a board of {plan.entries:,} entries")
                await fill_through_server(
                    address, requests.board_id, plan.entries, SubmissionIds(SystemClock())
                )
                site = Site(_ghz(program, Path(name)), Path(name), address, dict)
                played = await _played(address, requests)
                medians = await _headline(site, played, wanted, {})
            finally:
                await drop_board(address, requests.board_id)
        except grpc.aio.AioRpcError as error:
            raise BenchFailed(f"{address} cannot be used: {_told(error)}") from error
    about = {**machine_of(program), **_about(plan), "deployment": "given"}
    return Results(about, medians, UNITS, (plan.entries,), plan.entries)


async def _measured(deployment: Deployment, wanted: Wanted, program: Path, folder: Path) -> Results:
    plan = wanted.plan
    boards, facts = await _filled(deployment, wanted)
    main = next(one for one in boards if one.requests.entry_count == plan.entries)
    async with AsyncExitStack() as exit_stack:
        answers = await answers_of(deployment.address, main.requests)
        form = wanted.form
        echo = await exit_stack.enter_async_context(
            echoing(folder, form.transport, form.worker_count, answers)
        )
        ghz = _ghz(program, folder)
        site = Site(ghz, folder, deployment.address, deployment.groups, echo)
        raw = await _raw(deployment, main, wanted)
        medians = dict(await _headline(site, main, wanted, raw))
        callers = plan.callers[0]
        wanted.echo("measuring how cost grows")
        medians |= await interleaved(growth(site, boards, callers), plan.pace, wanted.echo)
    return Results(
        about={},
        medians=medians,
        units=UNITS,
        entries=[played.requests.entry_count for played in boards],
        main=plan.entries,
        facts=replace(facts, worker_bytes=deployment.worker_bytes()),
    )


async def _filled(deployment: Deployment, wanted: Wanted) -> tuple[Sequence[Played], Facts]:
    """The boards, smallest first, and what their indexes cost."""
    plan = wanted.plan
    boards = []
    empty_bytes = await deployment.redis_bytes()
    entries, rebuilt_per_s = 0, 0.0
    for count in sorted({plan.entries, *plan.other_entries}):
        requests = _requests(f"bench-{count}", count)
        await make_board(deployment.address, requests.board_id)
        wanted.echo(f"filling a board of {count:,} entries")
        await fill_past_server(deployment.stack.postgres_dsn, requests.board_id, count)
        build = await deployment.build_index(requests.board_id)
        # The last one is the biggest, where the beginning and the end weigh least.
        rebuilt_per_s = build.entries / build.seconds
        entries += count
        wanted.echo(f"its index was built in {build.seconds:.1f} s: {rebuilt_per_s:,.0f} entries/s")
        boards.append(await _played(deployment.address, requests))
    used_bytes = await deployment.redis_bytes() - empty_bytes
    return boards, Facts(
        ready_s=deployment.ready_s,
        rebuilt_per_s=rebuilt_per_s,
        redis_bytes_per_entry=used_bytes / entries,
    )


async def _raw(deployment: Deployment, played: Played, wanted: Wanted) -> Mapping[Key, Measure]:
    """The floors that are loops past the product."""
    wanted.echo("filling the same table of a database that nobody serves")
    count = played.requests.entry_count
    dsn = await deployment.raw_dsn()
    board = await raw_batches.prepare(dsn, count)

    def groups() -> Mapping[str, Sequence[int]]:
        return {name: pids for name, pids in deployment.groups().items() if name != "server"}

    nodes = RawNodes(
        deployment.stack.postgres_dsn,
        deployment.stack.redis_nodes[0],
        played.requests.board_id,
        count,
        groups,
    )
    return {
        Key(BATCH_SUBMIT, Kind.FLOOR, 1): RawBatches(dsn, board, count, groups),
        Key(BATCH_GET, Kind.FLOOR, 1): nodes,
    }


async def _headline(
    site: Site, played: Played, wanted: Wanted, raw: Mapping[Key, Measure]
) -> Mapping[Key, Median]:
    plan = wanted.plan
    await prove_batches(site.address, played.requests)
    started_s = time.monotonic()
    subjects = headline(site, played, plan.callers, raw)
    pace = plan.pace
    wanted.echo(f"measuring {len(subjects)} loads, {pace.runs} times {pace.seconds} s each")
    medians = dict(await interleaved(subjects, plan.pace, wanted.echo))
    halves = half_loads(site, played, medians, plan.callers[0])
    medians |= await interleaved(halves, plan.pace, wanted.echo)
    wanted.echo(f"measured in {time.monotonic() - started_s:.0f} s")
    return medians


async def _played(address: str, requests: Requests) -> Played:
    return Played(requests, await token_of(address, requests))


def _requests(board_id: str, count: int) -> Requests:
    rng = random.Random(count)  # noqa: S311 - no secret
    return Requests(board_id, count, rng, SubmissionIds(SystemClock()))


def _ghz(program: Path, folder: Path) -> Ghz:
    protoset = folder / "standings.protoset"
    write_protoset(protoset)
    return Ghz(program, protoset)


def _about(plan: Plan) -> Mapping[str, str]:
    pace = plan.pace
    return {
        "entries": f"{plan.entries:,}",
        "pace": f"medians of {pace.runs} interleaved runs of {pace.seconds} s",
    }


def _told(error: BaseException) -> str:
    return str(error.details() if isinstance(error, grpc.aio.AioRpcError) else error)
