"""A running server: both listeners, and the jobs wherever this process is elected."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from bootstrap.container import Container, open_container
from bootstrap.errors import NotConfigured
from bootstrap.exemplars import EXEMPLARS
from bootstrap.exposure import check_exposure
from bootstrap.settings import Settings
from bootstrap.snapshot_keeping import keep_snapshots
from bootstrap.tracing.opening import open_tracing
from cli.chaos_schedule import chaos_jobs
from cli.telling import metrics_told
from core.clock import SystemClock
from core.errors import StandingsError
from core.submission_ids import SubmissionIds
from jobs.runner import JobRunner
from jobs.schedule import all_jobs
from resilience.machine import MachineBusy
from resilience.machine_worker import MachineWorker
from resilience.metrics import PrometheusObserver
from server import metrics
from server.app import Server
from server.audit.shipping import AuditShipping
from server.health import Health
from server.identity.access import access_of
from server.levers.fleet import FleetSync
from server.levers.levers import levers_of
from server.levers.measuring import measure_levers
from server.limits.accounts import accounts_of
from server.metrics_endpoint import served
from server.transport.grpcio import GrpcioListener
from server.transport.listener import MakeListener
from server.use_cases import UseCases

_log = logging.getLogger(__name__)

_PROVE_S: Final = 0.1
_WATCH_S: Final = 1.0
"""How often the stores are asked, before and after both have answered once."""
_MEASURE_S: Final = 1.0
_STORE_COUNT: Final = 2


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a server listens, as host:port, and how it is."""

    public: str
    admin: str
    health: Health


@asynccontextmanager
async def serving(
    settings: Settings,
    *,
    with_jobs: bool = True,
    worker: int = 0,
    hurry: asyncio.Event | None = None,
    listener: MakeListener = GrpcioListener,
) -> AsyncIterator[Addresses]:
    """A running server, the worker of that slot on its machine; drained and stopped on leaving,
    at once if `hurry` is set by then. `listener` makes the one for games.

    The stores must be named in the settings, and migrated. Raises NotConfigured,
    LedgerUnavailable.
    """
    check_exposure(settings.server, settings.identity)
    access = access_of(settings, SystemClock())
    async with (
        _measured(settings),
        open_tracing(settings.traces, worker) as tracer,
        open_container(
            settings, observer=breaker_measures(), traced=tracer is not None
        ) as container,
    ):
        health = Health(("postgres", "redis"))
        member = _member(container, worker)
        fleet = FleetSync(
            container.machine, container.fleet, SystemClock(), settings.state.directory
        )
        shipping = AuditShipping(container.audit.ship, settings.state.directory)
        use_cases = _use_cases(container, settings, fleet)
        accounts = accounts_of(settings, asked=access.callers is not None)
        server = Server(
            use_cases, settings.server, health, listener, access, tracer, accounts=accounts
        )
        try:
            await server.start()
        except RuntimeError as error:
            addresses = f"{settings.server.address} and {settings.server.admin_address}"
            raise NotConfigured(f"cannot listen on {addresses}: is one of them taken?") from error
        background = [
            *(asyncio.create_task(task()) for task in access.tasks),
            asyncio.create_task(member.run()),
            asyncio.create_task(fleet.run()),
            asyncio.create_task(measure_levers(container.machine)),
            asyncio.create_task(keep_snapshots(container.keep_snapshots, settings.state.directory)),
            asyncio.create_task(shipping.run()),
            asyncio.create_task(_watch_stores(container, health)),
            asyncio.create_task(measure(container)),
        ]
        if with_jobs:
            background.append(asyncio.create_task(run_jobs(container, settings)))
        for task in background:
            task.add_done_callback(_tell_of_bug)
        try:
            yield Addresses(
                public=f"{settings.server.address.rpartition(':')[0]}:{server.port}",
                admin=f"{settings.server.admin_address.rpartition(':')[0]}:{server.admin_port}",
                health=health,
            )
        finally:
            hurried = hurry is not None and hurry.is_set()
            await server.stop(hurried=hurried)
            if not hurried:
                await shipping.finish()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)


@asynccontextmanager
async def _measured(settings: Settings) -> AsyncIterator[None]:
    with metrics_told(settings.metrics.address, served):
        yield


@functools.cache
def breaker_measures() -> PrometheusObserver:
    """What the breakers are told to, once a process; made late, because it cannot be made twice."""
    return PrometheusObserver()


def _tell_of_bug(task: asyncio.Task[None]) -> None:
    """None of the tasks ends by itself; a server without one must not be silent about it."""
    if not task.cancelled() and task.exception() is not None:
        _log.critical("work in the background has ended", exc_info=task.exception())


def _member(container: Container, worker: int) -> MachineWorker:
    try:
        return MachineWorker(container.machine, container.breakers, worker)
    except MachineBusy as error:
        raise NotConfigured("too many workers share the state directory") from error


def _use_cases(container: Container, settings: Settings, fleet: FleetSync) -> UseCases:
    clock = SystemClock()
    return UseCases(
        submit_scores=container.submit_scores,
        get_entry=container.get_entry,
        batch_get_entries=container.batch_get_entries,
        list_entries=container.list_entries,
        list_entries_around=container.list_entries_around,
        estimate_rank=container.estimate_rank,
        get_percentile=container.get_percentile,
        watch_entries=container.watch_entries,
        delete_entry=container.delete_entry,
        moderate_users=container.moderate_users,
        manage_boards=container.manage_boards,
        list_shards=container.list_shards,
        index_operations=container.index_operations,
        levers=levers_of(
            container.machine,
            clock,
            faults_enabled=settings.server.faults,
            publish=fleet.nudge,
        ),
        audit=container.audit.trail,
        list_audit_events=container.audit.list_events,
        new_submission_id=SubmissionIds(clock),
    )


async def run_jobs(container: Container, settings: Settings) -> None:
    """Runs the jobs wherever this process is elected; never returns by itself."""
    jobs = (
        *chaos_jobs(settings.chaos),
        *all_jobs(
            history=container.history,
            retention=container.retention,
            keeping=container.keeping,
            build=container.build,
            removals=container.removals,
            measure_outbox=container.measure_outbox,
            clock=SystemClock(),
        ),
    )
    await JobRunner(container.leadership, jobs).run()


async def measure(container: Container) -> None:
    """Looks regularly at what has no moment of its own; never returns by itself."""
    while True:
        container.pressure.measure(container.batcher.unsettled)
        container.breakers.tell()
        metrics.TASKS.set(len(asyncio.all_tasks()))
        EXEMPLARS.write()
        await asyncio.sleep(_MEASURE_S)


async def _watch_stores(container: Container, health: Health) -> None:
    """Tells the health of each store: impatiently until both have answered once."""
    proven: set[str] = set()
    while True:
        for store, answers in (("postgres", _postgres_answers), ("redis", _redis_answers)):
            try:
                serving = await answers(container)
            except Exception:  # noqa: BLE001 - a bug in a check must not end the checking
                _log.exception("a store could not be checked", extra={"store": store})
                serving = False
            health.set(store, serving=serving)
            if serving:
                proven.add(store)
        await asyncio.sleep(_PROVE_S if len(proven) < _STORE_COUNT else _WATCH_S)


async def _postgres_answers(container: Container) -> bool:
    try:
        await container.history.horizon()
    except StandingsError:
        return False
    return True


async def _redis_answers(container: Container) -> bool:
    return all(shard.reachable for shard in await container.keeping.shards([]))
