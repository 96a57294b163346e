"""The product on this machine: stores of its own, and `standings serve` before them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg
from psycopg import sql

from bench.errors import BenchFailed
from bench.processes import resident_bytes
from bench.transports import TRANSPORTS
from bootstrap.embedded.binaries import Engine
from bootstrap.embedded.ports import LOOPBACK, free_ports
from bootstrap.embedded.stack import EmbeddedStack
from bootstrap.embedded.waiting import until
from bootstrap.settings import Settings
from bootstrap.stores import migrate_database
from chaos.serving import Servers
from server.admin_client import OperationRow, connect

_WHOLE_S: Final = 30.0
_BUILD_S: Final = 1800.0
_LOOK_S: Final = 0.1
_RAW_DATABASE: Final = "raw"
POSTGRES_SETTINGS: Final[Mapping[str, str]] = {
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
}
"""As deploy/compose has them, for the floor as well. The buffers that PostgreSQL comes with hold
less than a board of a million entries."""


@dataclass(frozen=True, slots=True)
class Build:
    """How many entries an index was built of, and how long that took."""

    entries: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Form:
    """How the product is to be run. `engine` None: the first that is found."""

    worker_count: int
    transport: str
    engine: Engine | None = None


class Deployment:
    """Entered it is up; left it is gone. Its data lives in a directory of its own."""

    def __init__(self, directory: Path, form: Form) -> None:
        self._directory = directory
        self._form = form
        self.stack = EmbeddedStack(
            directory / "stores", engine=form.engine, postgres_settings=POSTGRES_SETTINGS
        )
        public, admin, metrics = free_ports(3)
        self.address = f"{LOOPBACK}:{public}"
        self._admin_address = f"{LOOPBACK}:{admin}"
        self._metrics_address = f"{LOOPBACK}:{metrics}"
        self._servers: Servers | None = None
        self._exit = AsyncExitStack()
        self.ready_s = 0.0
        """From the start of the server to its first answer that it serves."""

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._exit.aclose()

    def groups(self) -> Mapping[str, Sequence[int]]:
        """The processes by what they are."""
        workers = self._servers.workers() if self._servers else []
        postgres = self.stack.postgres.pid
        return {
            "server": workers,
            "redis": [node.pid for node in self.stack.redis.nodes if node.pid is not None],
            "postgres": [] if postgres is None else [postgres],
        }

    def worker_bytes(self) -> int:
        """The resident memory of a worker, on the average."""
        workers = self.groups()["server"]
        return sum(map(resident_bytes, workers)) // max(1, len(workers))

    async def redis_bytes(self) -> int:
        """What the primaries hold, without their replicas, and without what they keep to bring
        those up to date: that has one size however many entries there are.
        """
        used = 0
        for node in self.stack.redis.nodes:
            async with node.client() as client:
                if (await client.execute_command("ROLE"))[0] == "master":  # type: ignore[no-untyped-call]
                    memory = await client.info("memory")
                    used += memory["used_memory"] - memory["mem_total_replication_buffers"]
        return used

    async def build_index(self, board_id: str) -> Build:
        """Builds the index of a board from PostgreSQL. Raises BenchFailed."""
        started_s = time.monotonic()
        async with connect(self._admin_address) as client:
            state = await client.rebuild(board_id, [])

            async def ended() -> bool:
                nonlocal state
                state = await client.operation(state.operation_id)
                return state.state != "RUNNING"

            if not await until(ended, timeout_s=_BUILD_S, interval_s=_LOOK_S):
                raise BenchFailed("the index was not built in time")
        _require_done(state)
        return Build(state.entry_count, time.monotonic() - started_s)

    async def raw_dsn(self) -> str:
        """A second database of the same server, with the same tables: what is recorded there is
        followed by no index.
        """
        dsn = self.stack.postgres_dsn
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            name = sql.Identifier(_RAW_DATABASE)
            await connection.execute(sql.SQL("create database {}").format(name))
        raw = self.stack.postgres.dsn_of(_RAW_DATABASE)
        await migrate_database(Settings.load({"STANDINGS_POSTGRES_DSN": raw}))
        return raw

    async def _start(self) -> None:
        await self._exit.enter_async_context(self.stack)
        await migrate_database(Settings.load({"STANDINGS_POSTGRES_DSN": self.stack.postgres_dsn}))
        log = self._directory / "server.log"
        self._servers = Servers(self._environment(), self.address, self._metrics_address, log)
        self._exit.push_async_callback(self._servers.stop)
        started_s = time.monotonic()
        await self._servers.start()
        self.ready_s = time.monotonic() - started_s
        if not await self._servers.whole(self._form.worker_count, timeout_s=_WHOLE_S):
            raise BenchFailed("not every worker of the server started")

    def _environment(self) -> dict[str, str]:
        return {
            "STANDINGS_POSTGRES_DSN": self.stack.postgres_dsn,
            "STANDINGS_REDIS_NODES": ",".join(self.stack.redis_nodes),
            "STANDINGS_SERVER_ADDRESS": self.address,
            "STANDINGS_SERVER_ADMIN_ADDRESS": self._admin_address,
            "STANDINGS_SERVER_WORKERS": str(self._form.worker_count),
            "STANDINGS_STATE_DIRECTORY": str(self._directory / "state"),
            "STANDINGS_METRICS_ADDRESS": self._metrics_address,
            "STANDINGS_SERVER_DRAIN_SETTLE_S": "0",
            **TRANSPORTS[self._form.transport].settings,
        }


def _require_done(row: OperationRow) -> None:
    if row.state != "DONE":
        raise BenchFailed(f"the index was not built: {row.state} {row.error}")
