"""One node of the embedded cluster."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from bootstrap.embedded.child import Child, Command
from bootstrap.embedded.errors import StartFailed
from bootstrap.embedded.ports import LOOPBACK, free_ports
from bootstrap.embedded.waiting import until

NODE_TIMEOUT_MS: Final = 2000
"""How long a node may be silent before the others call it failed."""
START_TIMEOUT_S: Final = 10.0
START_ATTEMPTS_MAX: Final = 3
COMMAND_TIMEOUT_S: Final = 1.0


class RedisNode:
    """A server in cluster mode. It keeps no data: the index is rebuilt from PostgreSQL."""

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = program
        self.directory = directory
        """Where its log and its files are."""
        self._ports: tuple[int, int] | None = None
        self.announced_port: int | None = None
        """Where clients and replicas are to connect instead, from the next start on: a proxy."""
        self._child: Child | None = None

    @property
    def port(self) -> int:
        """The port for clients; later starts keep it."""
        return self._both_ports()[0]

    @property
    def bus_port(self) -> int:
        """The port for the other nodes."""
        return self._both_ports()[1]

    @property
    def address(self) -> str:
        """`host:port`, as clients name the node."""
        return f"{LOOPBACK}:{self.announced_port or self.port}"

    @property
    def pid(self) -> int | None:
        """The process id of the last start."""
        return self._child.pid if self._child else None

    @property
    def running(self) -> bool:
        """Whether the node's process exists, frozen or not."""
        return self._child is not None and self._child.running

    async def start(self) -> None:
        """Starts the node and waits until it answers. Raises StartFailed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        # A replica leaves what it was sent, whole or not; a node that starts has nothing.
        for left in self.directory.glob("*.rdb"):
            left.unlink()
        for _ in range(START_ATTEMPTS_MAX):
            ports = self._ports or _port_pair()
            self._child = child = Child(self._command(*ports))
            if await self._answers(child, ports[0]):
                self._ports = ports
                return
            await child.kill()
        raise StartFailed(f"{self._program} did not start; its log ends with\n{child.log_tail()}")

    async def kill(self) -> None:
        """Ends the node at once, without a word to the others."""
        if self._child is not None:
            await self._child.kill()

    async def restart(self) -> None:
        """Starts the node again under the same name and ports, without its data."""
        await self.kill()
        await self.start()

    def freeze(self) -> None:
        """Holds the node; its connections neither answer nor close."""
        if self._child is not None:
            self._child.freeze()

    def thaw(self) -> None:
        """Lets a frozen node go on."""
        if self._child is not None:
            self._child.thaw()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        """A connection to this node alone, replies as text."""
        async with _client(self.port) as client:
            yield client

    async def _answers(self, child: Child, port: int) -> bool:
        async def answered_or_gone() -> bool:
            return not child.running or await _ping(port)

        await until(answered_or_gone, timeout_s=START_TIMEOUT_S)
        # Both: somebody else may answer on a port that our node could not have.
        return child.running and await _ping(port)

    def _command(self, port: int, bus_port: int) -> Command:
        options = {
            "port": str(port),
            "bind": LOOPBACK,
            "dir": str(self.directory),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "cluster-enabled": "yes",
            # Named, because the default (port + 10000) may be past the last port there is.
            "cluster-port": str(bus_port),
            "cluster-announce-ip": LOOPBACK,
            "cluster-announce-port": str(self.announced_port or 0),
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            # A lost shard is a lost shard, not a lost cluster.
            "cluster-require-full-coverage": "no",
            # An old replica is better than none: what it lacks is healed from PostgreSQL.
            "cluster-replica-validity-factor": "0",
            # The default waits 5 s for further replicas to share a transfer with.
            "repl-diskless-sync-delay": "0",
            # A replica is listed once it has received something: from an idle primary, this ping.
            "repl-ping-replica-period": "1",
        }
        arguments = [str(self._program)]
        for name, value in options.items():
            arguments += [f"--{name}", value]
        # SIGKILL, because there is nothing to save and it also ends a frozen node.
        return Command(arguments, self.directory / "redis.log", signal.SIGKILL)

    def _both_ports(self) -> tuple[int, int]:
        if self._ports is None:
            raise StartFailed("the Redis node was not started")
        return self._ports


def _port_pair() -> tuple[int, int]:
    port, bus_port = free_ports(2)
    return port, bus_port


def _client(port: int) -> Redis:
    return Redis(
        host=LOOPBACK,
        port=port,
        protocol=2,
        decode_responses=True,
        socket_connect_timeout=COMMAND_TIMEOUT_S,
        socket_timeout=COMMAND_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


async def _ping(port: int) -> bool:
    try:
        async with _client(port) as client:
            return bool(await client.execute_command("PING"))  # type: ignore[no-untyped-call]
    except (RedisError, OSError):
        return False
