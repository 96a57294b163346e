"""What `standings serve` holds while its workers serve: the ports, the stores and the workers."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, nullcontext
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import typer

from bootstrap.errors import NotConfigured
from bootstrap.exposure import check_exposure
from bootstrap.server_settings import ServerSettings, Transport
from bootstrap.settings import MetricsSettings, Settings
from bootstrap.state import held
from cli.stopping import stop_signal
from cli.telling import metrics_told
from server.metrics_endpoint import WorkerMetrics
from server.reserved_port import PortTaken, reserved
from server.supervisor import Supervisor, WorkersFailed
from server.worker_process import Arguments, WorkerLimits, WorkerProgram

_METRICS_ADDRESS: Final = "127.0.0.1:9464"
_WORKERS_MAX: Final = 4
"""Where the number is not set: bootstrap/server_settings.py says why."""
_PORT_PATIENCE_S: Final = 3.0
"""Workers whose supervisor was killed are gone by then."""
_STOP_MARGIN_S: Final = 12.0
"""What a worker has beside its grace, to record what it has taken in and to close its pools."""


def supervise(settings: Settings, *, with_jobs: bool) -> None:
    """Serves until SIGTERM or SIGINT. Raises NotConfigured, also where a port is taken."""
    check_exposure(settings.server, settings.identity)
    with ExitStack() as stack:
        stack.enter_context(held(settings.state.directory))
        server = _with_ports(settings.server, stack)
        measures = WorkerMetrics(settings.state.directory.absolute() / "metrics")
        stack.enter_context(
            metrics_told(settings.metrics.address, measures.served, otherwise=_METRICS_ADDRESS)
        )
        # The workers' metrics are told here, for all of them.
        changes = {"server": server, "metrics": MetricsSettings()}
        try:
            asyncio.run(_run(settings.model_copy(update=changes), measures, with_jobs=with_jobs))
        except WorkersFailed as error:
            raise NotConfigured(str(error)) from error


def _with_ports(server: ServerSettings, stack: ExitStack) -> ServerSettings:
    try:
        public, admin, token, health = [
            address and stack.enter_context(reserved(address, patience_s=_PORT_PATIENCE_S))
            for address in (
                server.address,
                server.admin_address,
                server.token_address,
                server.health_address,
            )
        ]
    except PortTaken as error:
        raise NotConfigured(f"cannot listen on {error}: is it taken?") from error
    changes = {
        "address": public,
        "admin_address": admin,
        "token_address": token,
        "health_address": health,
        "reuse_port": True,
    }
    return server.model_copy(update=changes)


async def _run(settings: Settings, measures: WorkerMetrics, *, with_jobs: bool) -> None:
    stop = stop_signal()
    async with AsyncExitStack() as stack:
        ready = await stack.enter_async_context(_stores(settings))
        program = WorkerProgram(
            _arguments(ready, stack, with_jobs=with_jobs),
            ready.environment() | {"PROMETHEUS_MULTIPROC_DIR": str(measures.directory)},
        )
        supervisor = Supervisor(
            program, _count(ready.server), _limits(ready.server), measures.forget
        )
        await stack.enter_async_context(supervisor)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, supervisor.roll)
        server = ready.server
        tokens = f", for tokens on {server.token_address}" if server.token_address else ""
        health = f", for health checks on {server.health_address}" if server.health_address else ""
        typer.echo(
            f"listening on {server.address}{tokens}{health},"
            f" for operators on {server.admin_address}"
        )
        await stop.wait()


def _stores(settings: Settings) -> AbstractAsyncContextManager[Settings]:
    """Stores that are named are the workers' business, and what speaks to them is slow to load."""
    if settings.postgres.dsn is not None and settings.redis.nodes:
        return nullcontext(settings)
    from bootstrap.stores import open_stores

    return open_stores(settings)


def _arguments(settings: Settings, stack: AsyncExitStack, *, with_jobs: bool) -> Arguments:
    if settings.server.transport is Transport.ENVOY:
        sockets = stack.enter_context(TemporaryDirectory(prefix="standings-"))
        return _envoy(settings, Path(sockets), with_jobs=with_jobs)
    # -P: in whatever directory this is started, `cli` is this project's.
    command = (sys.executable, "-P", "-m", "cli", "worker", "--jobs" if with_jobs else "--no-jobs")
    return lambda slot, link: (*command, "--slot", str(slot), "--link", str(link))


def _envoy(settings: Settings, sockets: Path, *, with_jobs: bool) -> Arguments:
    if find_spec("pyvoy") is None:
        raise NotConfigured("the transport envoy needs the extra of that name, and Linux")
    from cli.envoy_hand_over import HandOver

    numbers = itertools.count()

    def arguments(slot: int, link: int) -> Sequence[str]:
        # Never the same twice: a successor starts while its predecessor still has its own.
        admin = str(sockets / str(next(numbers)))
        given = HandOver(slot, link, with_jobs, admin)
        return given.command(settings.server, tokens=settings.identity.tokens)

    return arguments


def _count(settings: ServerSettings) -> int:
    if settings.workers:
        return settings.workers
    cores = len(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else os.cpu_count()
    return min(cores or 1, _WORKERS_MAX)


def _limits(settings: ServerSettings) -> WorkerLimits:
    return WorkerLimits(
        stop_s=settings.drain_settle_s + settings.drain_grace_s + _STOP_MARGIN_S,
        growth_max=settings.worker_memory_growth_max,
        warm_s=settings.worker_warm_s,
    )
