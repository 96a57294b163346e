"""Builds the object graph: opened from top to bottom, closed the other way round."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from bootstrap.auditing import Audit, make_audit
from bootstrap.cold_start import begin, look_later
from bootstrap.errors import NotConfigured
from bootstrap.guarding import make_breakers, make_prober, open_machine
from bootstrap.operation_files import OperationFiles
from bootstrap.read_settings import ReadSettings
from bootstrap.replicas import Database, open_database
from bootstrap.rungs import make_ladder
from bootstrap.settings import Settings
from bootstrap.snapshot_files import SnapshotFiles
from bootstrap.used_boards import UsedBoards
from core.batch_get_entries import BatchGetEntries
from core.batching import SubmissionBatcher
from core.board_directory import BoardDirectory
from core.build_index import BuildIndex
from core.clock import SystemClock
from core.delete_entry import DeleteEntry
from core.estimate_rank import EstimateRank
from core.first_pages import FirstPageLimits, FirstPages
from core.get_entry import GetEntry
from core.get_percentile import GetPercentile
from core.hot_entries import HotEntries, HotEntryLimits
from core.index_operations import IndexOperations
from core.index_removals import IndexRemovals
from core.keep_snapshots import KeepSnapshots
from core.known_ledger import KnownLedger
from core.list_entries import ListEntries
from core.list_entries_around import ListEntriesAround
from core.list_shards import ListShards
from core.manage_boards import ManageBoards
from core.moderate_users import ModerateUsers
from core.operations import Operations
from core.own_writes import OwnWrites
from core.ports import IndexKeeping, Leadership, LedgerHistory, Retention
from core.reading import Reading
from core.removal_ports import UnfinishedRemovals
from core.shadow_reads import ShadowReads
from core.shared_reads import SharedReads
from core.submit_scores import SubmitScores
from core.tokens import TokenSigner
from core.traced_batching import TracedBatcher
from core.traced_reads import TracedReads
from core.verify_index import VerifyIndex
from core.watch_entries import WatchEntries
from resilience.breakers import Breakers
from resilience.deadline import DEADLINE_S, shared_context
from resilience.faults import NO_FAULTS
from resilience.fleet import FleetOverrides
from resilience.machine import MachineFile
from resilience.observer import Observer
from sharding.index import RedisIndex
from sharding.keeping import RedisIndexKeeping
from sharding.node_spans import NodeSpans
from sharding.pieces import RedisIndexPieces
from sharding.router import Router
from sharding.snapshots import RedisSnapshots
from sharding.windows import WINDOWS_MAX
from storage.boards import PostgresBoards
from storage.breaker_overrides import PostgresBreakerOverrides
from storage.history import PostgresHistory
from storage.leadership import PostgresLeadership
from storage.ledger import PostgresLedger
from storage.observed_ledger import ObservedLedger
from storage.pieces import PostgresPieces
from storage.pool import Pool, open_pool
from storage.pressure import OutboxRows, Pressure
from storage.removal import PostgresRemoval
from storage.retention import PostgresRetention
from storage.sessions import PoolUse
from storage.snapshots import PostgresSnapshots
from storage.unfinished_removals import PostgresUnfinishedRemovals

_log = logging.getLogger(__name__)

_DRAIN_TIMEOUT_S: Final = 10.0
_PAGE_S: Final = 0.2
"""So long a first page may take to be read, however little time they have who wait for it."""


@dataclass(frozen=True, slots=True)
class Container:
    """Everything a process needs, opened."""

    submit_scores: SubmitScores
    get_entry: HotEntries
    batch_get_entries: BatchGetEntries
    list_entries: FirstPages
    list_entries_around: ListEntriesAround
    estimate_rank: EstimateRank
    get_percentile: GetPercentile
    watch_entries: WatchEntries
    delete_entry: DeleteEntry
    moderate_users: ModerateUsers
    manage_boards: ManageBoards
    list_shards: ListShards
    index_operations: IndexOperations
    batcher: SubmissionBatcher
    history: LedgerHistory
    retention: Retention
    removals: UnfinishedRemovals
    keeping: IndexKeeping
    build: BuildIndex
    leadership: Leadership
    machine: MachineFile
    breakers: Breakers
    pressure: Pressure
    measure_outbox: OutboxRows
    fleet: FleetOverrides
    shadow: ShadowReads
    keep_snapshots: KeepSnapshots
    audit: Audit


@asynccontextmanager
async def open_container(
    settings: Settings, *, observer: Observer | None = None, traced: bool = False
) -> AsyncIterator[Container]:
    """The object graph of a process. What it did not open it does not close. `observer` is told
    the counts of its breakers. `traced`: what is done for calls with a span makes spans.

    Returns as soon as PostgreSQL has given the signing keys; without it where this machine has
    them. Raises NotConfigured, LedgerUnavailable.
    """
    async with AsyncExitStack() as stack:
        dsn = postgres_dsn(settings)
        if not settings.redis.nodes:
            raise NotConfigured("STANDINGS_REDIS_NODES is not set")
        replicas = len(settings.postgres.replica_dsns)
        machine = open_machine(settings.state.directory, replicas=replicas)
        stack.callback(machine.close)
        faults = machine if settings.server.faults else NO_FAULTS
        breakers = make_breakers(machine, faults, observer, replicas=replicas)
        stack.enter_context(breakers.common.lag.watched())
        write, read, jobs = [
            await stack.enter_async_context(open_pool(settings.postgres, dsn, use, breakers))
            for use in (PoolUse.WRITE, PoolUse.READ, PoolUse.JOBS)
        ]
        rng = random.Random()  # noqa: S311  # jitter only
        spans = NodeSpans() if traced else None
        router = Router(settings.redis, rng=rng, breakers=breakers, observer=spans)
        await router.open()
        stack.push_async_callback(router.aclose)
        database = await stack.enter_async_context(
            open_database(settings.postgres, read, breakers, SystemClock())
        )
        pools = {"postgres/write": write, "postgres/read": read, "postgres/jobs": jobs}
        pools |= database.pools
        probing = asyncio.create_task(make_prober(breakers, router, pools).run())
        stack.push_async_callback(_end, probing)
        used = UsedBoards(settings.state.directory, SystemClock())
        secrets, looked = await begin(
            write, settings.tokens, settings.state.directory, boards_known=used.count
        )
        tasks = [used.run()] if looked else [used.run(), look_later(write)]
        for task in tasks:
            stack.push_async_callback(_end, asyncio.create_task(task))
        ledger = KnownLedger(PostgresHistory(jobs))
        stack.push_async_callback(_end, asyncio.create_task(ledger.follow()))
        signer = TokenSigner(secrets, lambda: ledger.name)
        stores = _Stores(write, read, jobs, database, router, breakers, machine, used)
        container = _build(settings, stores, signer, _TRACED if traced else _PLAIN)
        stack.push_async_callback(_drain, container.batcher)
        stack.push_async_callback(container.watch_entries.aclose)
        stack.push_async_callback(container.shadow.aclose)
        stack.push_async_callback(container.index_operations.operations.aclose)
        yield container


def postgres_dsn(settings: Settings, *, direct: bool = False) -> str:
    """Where PostgreSQL is; `direct`: past a transaction pooler, for session locks.

    Raises NotConfigured.
    """
    postgres = settings.postgres
    dsn = postgres.direct_dsn if direct and postgres.direct_dsn else postgres.dsn
    if dsn is None:
        raise NotConfigured("STANDINGS_POSTGRES_DSN is not set")
    return dsn.get_secret_value()


@dataclass(frozen=True, slots=True)
class _Stores:
    write: Pool
    read: Pool
    jobs: Pool
    database: Database
    router: Router
    breakers: Breakers
    machine: MachineFile
    used: UsedBoards


@dataclass(frozen=True, slots=True)
class _Kinds:
    """What brings together the work of many calls."""

    batcher: type[SubmissionBatcher]
    reads: type[SharedReads[Any, Any]]


_PLAIN: Final = _Kinds(SubmissionBatcher, SharedReads)
_TRACED: Final = _Kinds(TracedBatcher, TracedReads)


def _build(settings: Settings, stores: _Stores, signer: TokenSigner, make: _Kinds) -> Container:
    clock = SystemClock()
    postgres = settings.postgres
    boards = PostgresBoards(postgres, write=stores.write, read=stores.read)
    history = PostgresHistory(stores.jobs)
    keeping = RedisIndexKeeping(stores.router, clock)
    build = BuildIndex(history, keeping)
    own_writes = OwnWrites(users_max=settings.reads.hot_entries_max)
    windows = make.reads(DEADLINE_S.get, name="windows", crowd_max=WINDOWS_MAX)
    index = RedisIndex(stores.router, windows)
    files = SnapshotFiles(settings.state.directory, clock)
    ladder, shadow = make_ladder(settings, index, stores.database, files, clock)
    reading = Reading(
        boards=BoardDirectory(boards, clock, stores.used),
        entries=ladder,
        partial_entries=ladder.allowing_partial(),
        ledger=ObservedLedger(PostgresLedger(postgres, write=stores.write, read=stores.read)),
        signer=signer,
        clock=clock,
        together=make.reads(DEADLINE_S.get, name="ranks"),
    )
    batcher = make.batcher(
        ledger=reading.ledger,
        index=index,
        boards=reading.boards,
        observer=own_writes,
        deadline_s=DEADLINE_S.get,
    )
    removal = PostgresRemoval(postgres, write=stores.write, jobs=stores.jobs)
    removed = IndexRemovals(index, signer, own_writes.forget, own_writes.missed)
    return Container(
        submit_scores=SubmitScores(reading, index, batcher),
        get_entry=_hot_entries(settings.reads, reading, own_writes),
        batch_get_entries=BatchGetEntries(reading),
        list_entries=_first_pages(settings.reads, reading, own_writes),
        list_entries_around=ListEntriesAround(reading),
        estimate_rank=EstimateRank(reading),
        get_percentile=GetPercentile(reading),
        watch_entries=WatchEntries(reading, settings.watch.limits()),
        delete_entry=DeleteEntry(reading.boards, removal, removed),
        moderate_users=ModerateUsers(reading.boards, removal, removed),
        manage_boards=ManageBoards(
            boards=boards, directory=reading.boards, keeping=keeping, build=build, signer=signer
        ),
        list_shards=ListShards(history, keeping, clock),
        index_operations=IndexOperations(
            Operations(OperationFiles(settings.state.directory / "operations", clock), clock),
            boards,
            _verify_index(stores, history, keeping),
            build,
        ),
        batcher=batcher,
        history=history,
        retention=PostgresRetention(postgres, stores.jobs),
        removals=PostgresUnfinishedRemovals(postgres, stores.jobs),
        keeping=keeping,
        build=build,
        leadership=PostgresLeadership(postgres_dsn(settings, direct=True)),
        shadow=shadow,
        machine=stores.machine,
        breakers=stores.breakers,
        pressure=_pressure(stores),
        measure_outbox=OutboxRows(stores.jobs),
        # Whose sessions are its own, like the jobs'.
        fleet=PostgresBreakerOverrides(postgres_dsn(settings, direct=True)),
        keep_snapshots=_snapshots(stores, index, keeping, files),
        audit=make_audit(settings, stores.jobs, signer),
    )


def _pressure(stores: _Stores) -> Pressure:
    replicas = {name.rpartition("/")[2]: pool for name, pool in stores.database.pools.items()}
    pools = {"write": stores.write, "read": stores.read, "jobs": stores.jobs}
    return Pressure({**pools, **replicas})


def _snapshots(
    stores: _Stores, index: RedisIndex, keeping: IndexKeeping, files: SnapshotFiles
) -> KeepSnapshots:
    clock = SystemClock()
    return KeepSnapshots(
        RedisSnapshots(stores.router, index, keeping, clock),
        PostgresSnapshots(stores.jobs, PostgresHistory(stores.jobs), clock),
        files,
        clock,
    )


def _verify_index(stores: _Stores, history: LedgerHistory, keeping: IndexKeeping) -> VerifyIndex:
    pieces = RedisIndexPieces(stores.router)
    return VerifyIndex(PostgresPieces(stores.jobs), pieces, history, keeping, SystemClock())


def _first_pages(settings: ReadSettings, reading: Reading, own_writes: OwnWrites) -> FirstPages:
    return FirstPages(
        ListEntries(reading),
        boards=reading.boards,
        own_writes=own_writes,
        clock=reading.clock,
        limits=FirstPageLimits(
            fresh_ms=settings.first_page_ms,
            error_s=settings.stale_if_error_s,
            entries_max=settings.first_page_entries_max,
        ),
        deadline_s=DEADLINE_S.get,
        context=partial(shared_context, _PAGE_S),
    )


def _hot_entries(settings: ReadSettings, reading: Reading, own_writes: OwnWrites) -> HotEntries:
    return HotEntries(
        GetEntry(reading),
        boards=reading.boards,
        own_writes=own_writes,
        clock=reading.clock,
        limits=HotEntryLimits(
            fresh_s=settings.hot_entry_s,
            error_s=settings.stale_if_error_s,
            entries_max=settings.hot_entries_max,
        ),
    )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))


async def _drain(batcher: SubmissionBatcher) -> None:
    """Lets what was taken in be recorded, as long as an orchestrator waits before it kills."""
    try:
        async with asyncio.timeout(_DRAIN_TIMEOUT_S):
            await batcher.drain()
    except TimeoutError:
        _log.warning("submissions that were taken in could not be recorded in time")
