"""A whole deployment on this machine: embedded stores, a proxy before each, and the server.

The server knows only the proxies: each Redis node announces its own, so replicas use them, too.
Whoever checks goes past them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from redis.exceptions import RedisError

from bootstrap.embedded.ports import LOOPBACK, free_ports
from bootstrap.embedded.redis_node import RedisNode
from bootstrap.embedded.stack import EmbeddedStack
from bootstrap.settings import Settings
from bootstrap.stores import migrate_database
from chaos.boards import fill_past_server, make_boards
from chaos.conduct import Vitals
from chaos.proxy import Fault, Proxy
from chaos.serving import Servers
from chaos.stores import Stores
from sharding.keys import SLOTS

WORKER_COUNT: Final = 2
_NICENESS: Final = 5
"""Behind whoever measures: a caller without a turn hears late what was said in time."""
_WHOLE_S: Final = 15.0


class Deployment:
    """Entered it is up; left it is gone, data and all. `settings` are for its server."""

    def __init__(
        self, directory: Path, rng: random.Random, settings: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        self._settings = settings or {}
        self.stack = EmbeddedStack(directory / "stores", fsync=False)
        self.node_proxies = [Proxy(rng, partial(_port, node)) for node in self.stack.redis.nodes]
        self.postgres_proxy = Proxy(rng, lambda: self.stack.postgres.port)
        public, admin, metrics = free_ports(3)
        self.address = f"{LOOPBACK}:{public}"
        self.admin_address = f"{LOOPBACK}:{admin}"
        self._metrics_address = f"{LOOPBACK}:{metrics}"
        self._servers: Servers | None = None
        self._exit = AsyncExitStack()

    @property
    def servers(self) -> Servers:
        """The server's processes."""
        if self._servers is None:
            raise RuntimeError("the deployment was not started")
        return self._servers

    @property
    def nodes(self) -> Sequence[RedisNode]:
        """The six nodes of Redis."""
        return self.stack.redis.nodes

    @property
    def stores(self) -> Stores:
        """Both stores, past the proxies."""
        nodes = [f"{LOOPBACK}:{node.port}" for node in self.nodes if node.running]
        return Stores(self.stack.postgres_dsn, nodes)

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

    async def _start(self) -> None:
        for proxy in (*self.node_proxies, self.postgres_proxy):
            await proxy.start()
            self._exit.push_async_callback(proxy.stop)
        for node, proxy in zip(self.nodes, self.node_proxies, strict=True):
            node.announced_port = proxy.port
        await self._exit.enter_async_context(self.stack)
        await migrate_database(Settings.load({"STANDINGS_POSTGRES_DSN": self.stack.postgres_dsn}))
        log = self.directory / "server.log"
        self._servers = Servers(
            self._environment(), self.address, self._metrics_address, log, niceness=_NICENESS
        )
        self._exit.push_async_callback(self._servers.stop)
        await self._servers.start()

    def _environment(self) -> dict[str, str]:
        direct, proxied = f":{self.stack.postgres.port}/", f":{self.postgres_proxy.port}/"
        return {
            "STANDINGS_POSTGRES_DSN": self.stack.postgres_dsn.replace(direct, proxied),
            "STANDINGS_REDIS_NODES": ",".join(self.stack.redis_nodes),
            "STANDINGS_SERVER_ADDRESS": self.address,
            "STANDINGS_SERVER_ADMIN_ADDRESS": self.admin_address,
            "STANDINGS_SERVER_WORKERS": str(WORKER_COUNT),
            "STANDINGS_STATE_DIRECTORY": str(self.directory / "state"),
            "STANDINGS_SERVER_FAULTS": "true",
            "STANDINGS_METRICS_ADDRESS": self._metrics_address,
            "STANDINGS_SERVER_DRAIN_SETTLE_S": "0.2",
            "STANDINGS_LOG_LEVEL": "WARNING",
            **self._settings,
        }

    async def prepare(self, users: Mapping[str, int]) -> None:
        """Boards on which users 1 to so many have entries. The index, which knows nothing of them,
        is emptied, so that it is built.
        """
        await make_boards(self.address)
        for board, count in users.items():
            await self.fill(board, count)
        await self.flush_index()

    async def whole(self) -> bool:
        """Waits for every worker."""
        return await self.servers.whole(WORKER_COUNT, timeout_s=_WHOLE_S)

    async def vitals(self) -> Vitals | None:
        """What the workers hold."""
        return await self.servers.vitals()

    async def probes_most(self) -> int | None:
        """As the workers count them."""
        return await self.servers.probes_most()

    async def fill(self, board: str, count: int) -> None:
        """Gives users 1 to `count` entries, past the server."""
        await fill_past_server(self.stack.postgres_dsn, board, count)

    async def flush_index(self) -> None:
        """Forgets every key of the index."""
        for node in self.nodes:
            async with node.client() as client:
                if (await client.execute_command("ROLE"))[0] == "master":  # type: ignore[no-untyped-call]
                    await client.flushall()

    async def primary_of(self, shard: int) -> RedisNode:
        """The node that answers for a shard. Raises LookupError while there is none."""
        for node in self.nodes:
            if not node.running:
                continue
            try:
                async with node.client() as client:
                    slots = await client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
            except (RedisError, OSError):
                continue
            for first, last, primary, *_ in slots:
                if first <= SLOTS[shard] <= last:
                    return self.node_at(int(primary[1]))
        raise LookupError(shard)

    async def replica_of(self, primary: RedisNode) -> RedisNode:
        """The node that follows a primary. Raises LookupError."""
        for node in self.nodes:
            if node is not primary and node.running:
                async with node.client() as client:
                    role = await client.execute_command("ROLE")  # type: ignore[no-untyped-call]
                if role[0] == "slave" and int(role[2]) in (primary.port, primary.announced_port):
                    return node
        raise LookupError(primary.address)

    def node_at(self, port: int) -> RedisNode:
        """The node with this port, its own or its proxy's."""
        return next(node for node in self.nodes if port in (node.port, node.announced_port))

    def proxy_of(self, node: RedisNode) -> Proxy:
        """What stands before a node."""
        return self.node_proxies[list(self.nodes).index(node)]

    async def heal(self) -> None:
        """Puts everything back, whatever was done to it; the index may still be behind."""
        for proxy in (*self.node_proxies, self.postgres_proxy):
            proxy.set(Fault())
        postgres = self.stack.postgres
        postgres.thaw()
        if not postgres.running:
            await postgres.restart()
        await self.stack.redis.heal()
        await self.servers.revive()


def _port(node: RedisNode) -> int:
    return node.port
