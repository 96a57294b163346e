"""Opens the replicas of PostgreSQL that reads are sent to, and keeps an eye on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from core.ports import Clock
from resilience.breakers import Breakers
from storage.guarding import replica_breakers
from storage.pool import Pool, open_pool
from storage.positions import PrimaryMarks
from storage.rank_sources import PrimarySource
from storage.replicas import Replica, ReplicaWatch
from storage.sessions import PoolUse
from storage.settings import PostgresSettings


@dataclass(frozen=True, slots=True)
class Database:
    """The primary and its replicas, as reads by rank keys ask them. `pools`: those of the replicas,
    by the names of their breakers.
    """

    primary: PrimarySource
    replicas: Sequence[Replica]
    pools: Mapping[str, Pool]


@asynccontextmanager
async def open_database(
    settings: PostgresSettings, read: Pool, breakers: Breakers, clock: Clock
) -> AsyncIterator[Database]:
    """Those of the settings, looked at once a second until they are left; `read` leads to the
    primary. Nothing of a replica is waited for.
    """
    timeout_s = settings.read_timeout_ms / 1000
    primary = PrimarySource(read, clock, timeout_s=timeout_s)
    async with AsyncExitStack() as stack:
        names = list(replica_breakers(len(settings.replica_dsns)))
        pools = {
            name: await stack.enter_async_context(
                open_pool(settings, dsn.get_secret_value(), PoolUse.READ, breakers, breaker=name)
            )
            for name, dsn in zip(names, settings.replica_dsns, strict=True)
        }
        marks = PrimaryMarks()
        replicas = [
            Replica(name.rpartition("/")[2], pool, marks, primary, clock, timeout_s=timeout_s)
            for name, pool in pools.items()
        ]
        if replicas:
            watching = asyncio.create_task(ReplicaWatch(read, replicas, marks, clock).run())
            stack.push_async_callback(_end, watching)
        yield Database(primary, replicas, pools)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))
