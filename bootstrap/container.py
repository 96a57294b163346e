"""Builds the object graph: opened from top to bottom, closed the other way round."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from bootstrap.settings import Settings, TokenSettings
from core.batch_get_entries import BatchGetEntries
from core.batching import SubmissionBatcher
from core.board_directory import BoardDirectory
from core.build_index import BuildIndex
from core.clock import SystemClock
from core.get_entry import GetEntry
from core.list_entries import ListEntries
from core.list_shards import ListShards
from core.manage_boards import ManageBoards
from core.ports import IndexKeeping, Leadership, LedgerHistory, Retention
from core.reading import Reading
from core.submit_scores import SubmitScores
from core.tokens import TokenSigner
from sharding.index import RedisIndex
from sharding.keeping import RedisIndexKeeping
from sharding.router import Router
from storage.boards import PostgresBoards
from storage.history import PostgresHistory
from storage.leadership import PostgresLeadership
from storage.ledger import PostgresLedger
from storage.migrations import pending_migrations
from storage.pool import Pool, PoolUse, open_pool, translated
from storage.retention import PostgresRetention
from storage.signing_keys import signing_keys

_log = logging.getLogger(__name__)

_DRAIN_TIMEOUT_S: Final = 10.0
_CONNECT_TIMEOUT_S: Final = 10.0
"""How long a start waits for PostgreSQL."""


class NotConfigured(Exception):
    """A store is not named in the settings, or not ready for this version."""


@dataclass(frozen=True, slots=True)
class Container:
    """Everything a process needs, opened."""

    submit_scores: SubmitScores
    get_entry: GetEntry
    batch_get_entries: BatchGetEntries
    list_entries: ListEntries
    manage_boards: ManageBoards
    list_shards: ListShards
    batcher: SubmissionBatcher
    history: LedgerHistory
    retention: Retention
    keeping: IndexKeeping
    build: BuildIndex
    leadership: Leadership


@asynccontextmanager
async def open_container(settings: Settings) -> AsyncIterator[Container]:
    """The object graph of a process. What it did not open it does not close.

    Returns as soon as PostgreSQL has given the signing keys. Raises NotConfigured,
    LedgerUnavailable.
    """
    async with AsyncExitStack() as stack:
        dsn = postgres_dsn(settings)
        if not settings.redis.nodes:
            raise NotConfigured("STANDINGS_REDIS_NODES is not set")
        write, read, jobs = [
            await stack.enter_async_context(open_pool(settings.postgres, dsn, use))
            for use in (PoolUse.WRITE, PoolUse.READ, PoolUse.JOBS)
        ]
        router = Router(settings.redis, rng=random.Random())  # noqa: S311  # jitter only
        await router.open()
        stack.push_async_callback(router.aclose)
        await _require_schema(write)
        signer = TokenSigner(await _secrets(settings.tokens, write))
        container = _build(settings, _Pools(write, read, jobs), router, signer)
        stack.push_async_callback(_drain, container.batcher)
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
class _Pools:
    write: Pool
    read: Pool
    jobs: Pool


def _build(settings: Settings, pools: _Pools, router: Router, signer: TokenSigner) -> Container:
    clock = SystemClock()
    ledger = PostgresLedger(settings.postgres, write=pools.write, read=pools.read)
    boards = PostgresBoards(settings.postgres, write=pools.write, read=pools.read)
    history = PostgresHistory(pools.jobs)
    index = RedisIndex(router)
    keeping = RedisIndexKeeping(router, clock)
    directory = BoardDirectory(boards, clock)
    build = BuildIndex(history, keeping)
    reading = Reading(boards=directory, index=index, ledger=ledger, signer=signer, clock=clock)
    batcher = SubmissionBatcher(ledger=ledger, index=index, boards=directory)
    return Container(
        submit_scores=SubmitScores(reading, batcher),
        get_entry=GetEntry(reading),
        batch_get_entries=BatchGetEntries(reading),
        list_entries=ListEntries(reading),
        manage_boards=ManageBoards(
            boards=boards, directory=directory, keeping=keeping, build=build, signer=signer
        ),
        list_shards=ListShards(history, keeping, clock),
        batcher=batcher,
        history=history,
        retention=PostgresRetention(settings.postgres, pools.jobs),
        keeping=keeping,
        build=build,
        leadership=PostgresLeadership(postgres_dsn(settings, direct=True)),
    )


async def _drain(batcher: SubmissionBatcher) -> None:
    """Lets what was taken in be recorded, as long as an orchestrator waits before it kills."""
    try:
        async with asyncio.timeout(_DRAIN_TIMEOUT_S):
            await batcher.drain()
    except TimeoutError:
        _log.warning("submissions that were taken in could not be recorded in time")


async def _require_schema(pool: Pool) -> None:
    with translated():
        async with pool.connection(_CONNECT_TIMEOUT_S) as connection:
            pending = await pending_migrations(connection)
    if pending:
        raise NotConfigured(f"the database lacks {', '.join(pending)}: run `standings migrate`")


async def _secrets(settings: TokenSettings, pool: Pool) -> list[bytes]:
    given = [
        secret.get_secret_value().encode()
        for secret in (settings.secret, settings.secret_before)
        if secret is not None
    ]
    return given or await signing_keys(pool)
