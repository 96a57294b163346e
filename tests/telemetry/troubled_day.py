"""A day on which everything goes wrong once, with callers all the time and pages read meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import grpc

from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from server.admin_client import connect
from standings.v1 import admin_service_pb2 as pb
from standings.v1 import admin_service_pb2_grpc as stubs
from standings_client import AsyncClient, EntryView, StandingsError, Submission
from tests.fixtures.processes import ServerProcess
from tests.telemetry.promql import Scrapes

BOARD = "arena"
USERS = 2_000
NARROW = {
    "STANDINGS_REDIS_OPERATION_TIMEOUT_S": "0.3",
    "STANDINGS_REDIS_READ_TIMEOUT_S": "0.3",
    "STANDINGS_REDIS_RESPONSE_TIMEOUT_S": "0.3",
    "STANDINGS_POSTGRES_WRITE_TIMEOUT_MS": "1000",
    "STANDINGS_POSTGRES_READ_TIMEOUT_MS": "1000",
    "STANDINGS_SERVER_IN_FLIGHT_MAX": "36",
    "STANDINGS_SERVER_WORKERS": "2",
    "STANDINGS_SERVER_FAULTS": "true",
}
"""Settings of a server that soon gives up, so that little is needed to see it."""
_CALLERS = 40
_PAUSE_S = 0.1
_REASON = "a day of trouble"


@dataclass
class Day:
    """One server and its stores. `calm_s` lies between two troubles."""

    server: ServerProcess
    cluster: EmbeddedRedisCluster
    postgres: EmbeddedPostgres
    calm_s: float
    scrape_s: float
    scrapes: Scrapes = field(default_factory=Scrapes)
    ordinary_until_s: float = 0.0
    """When the first trouble began."""

    async def live(self) -> None:
        """All of it."""
        async with self._read_pages(), self._callers():
            await asyncio.sleep(2 * self.calm_s)
            self.ordinary_until_s = time.time()
            for trouble in (
                self._a_lever,
                self._a_fault,
                self._frozen_redis,
                self._frozen_postgres,
                self._a_death,
            ):
                await trouble()
                await asyncio.sleep(self.calm_s)

    async def read_page(self) -> None:
        """Reads the metrics once more."""
        self.scrapes.add(time.time(), await self._page())

    async def _a_lever(self) -> None:
        async with connect(self.server.admin_address) as admin:
            for mode in ("FORCED_OPEN", "AUTO"):
                await admin.set_breaker(
                    "redis/shard-00", mode, reason=_REASON, actor="test", ttl_s=None
                )
                await asyncio.sleep(self.calm_s)

    async def _a_fault(self) -> None:
        async with grpc.aio.insecure_channel(self.server.admin_address) as channel:
            admin = stubs.AdminServiceStub(channel)
            for target in ("redis/shard-03", "postgres/read"):
                fault = pb.InjectFaultRequest(
                    target=target, kind=pb.FAULT_KIND_ERROR, reason=_REASON
                )
                await admin.InjectFault(fault)
            await asyncio.sleep(self.calm_s)
            await admin.ClearFaults(pb.ClearFaultsRequest())

    async def _frozen_redis(self) -> None:
        nodes = [self.cluster.node(address) for address in self.cluster.addresses]
        for node in nodes:
            node.freeze()
        # Less than a failover takes.
        await asyncio.sleep(1.5)
        for node in nodes:
            node.thaw()

    async def _frozen_postgres(self) -> None:
        self.postgres.freeze()
        async with AsyncClient(self.server.address, timeout_s=1.5) as client:
            # More at once than a worker holds.
            crowd = [client.submit_score(BOARD, user, 1) for user in range(1, 101)]
            await asyncio.gather(*crowd, return_exceptions=True)
        await asyncio.sleep(self.calm_s)
        self.postgres.thaw()

    async def _a_death(self) -> None:
        slot, pid = next(iter(self.server.workers().items()))
        os.kill(pid, signal.SIGKILL)
        await self.server.line("worker died", slot=slot, pid=pid)

    @asynccontextmanager
    async def _callers(self) -> AsyncIterator[None]:
        callers = [asyncio.create_task(self._caller(number)) for number in range(_CALLERS)]
        try:
            yield
        finally:
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)

    async def _caller(self, number: int) -> None:
        rng = random.Random(number)
        # Not all at once: 36 calls in flight are only to be seen while something hangs.
        await asyncio.sleep(number / _CALLERS)
        async with AsyncClient(self.server.address, timeout_s=2) as client:
            while True:
                user, kind = rng.randint(1, USERS), rng.random()
                with suppress(StandingsError):
                    if kind < 0.4:
                        await client.submit_score(BOARD, user, rng.randint(1, 10_000))
                    elif kind < 0.7:
                        await client.get_entry(BOARD, user, view=EntryView.FULL)
                    elif kind < 0.8:
                        await client.list_entries(BOARD, start_rank=user, page_size=10)
                    elif kind < 0.9:
                        await client.list_entries_around(BOARD, user_id=user, above=3, below=3)
                    else:
                        await client.list_entries(BOARD, page_size=10)
                await asyncio.sleep(rng.uniform(0, 2 * _PAUSE_S))

    @asynccontextmanager
    async def _read_pages(self) -> AsyncIterator[None]:
        ended = False

        async def read() -> None:
            while not ended:
                await self.read_page()
                await asyncio.sleep(self.scrape_s)

        reading = asyncio.create_task(read())
        try:
            yield
        finally:
            ended = True
            await reading

    async def _page(self) -> str | None:
        address = (await self.server.line("metrics are served"))["address"]
        try:
            reader, writer = await asyncio.open_connection(*address.split(":"))
        except OSError:
            return None
        try:
            writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
            _, _, page = (await reader.read()).decode().partition("\r\n\r\n")
        finally:
            writer.close()
        return page


def first_scores() -> Sequence[Submission]:
    """A score of every user."""
    rng = random.Random(0)
    return [Submission(BOARD, user, rng.randint(1, 10_000)) for user in range(1, USERS + 1)]
