"""Three primaries and three replicas, made into a cluster without redis-cli."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from redis.exceptions import RedisError, ResponseError

from bootstrap.embedded.errors import StartFailed
from bootstrap.embedded.redis_node import RedisNode
from bootstrap.embedded.waiting import until

PRIMARY_COUNT: Final = 3
NODE_COUNT: Final = 6
SLOT_COUNT: Final = 16384
SETTLE_TIMEOUT_S: Final = 30.0
"""A new cluster takes 2 s, which is built into the server; a failover some seconds more."""
_SETTLE_LOOK_S: Final = 0.1


class EmbeddedRedisCluster:
    """The six nodes; the first three begin as primaries.

    Every start is a new and empty cluster: no old slot map, no ports of yesterday.
    """

    def __init__(self, directory: Path, program: Path) -> None:
        self._directory = directory.absolute() / "redis"
        self.nodes: Sequence[RedisNode] = [
            RedisNode(program, self._directory / str(number)) for number in range(NODE_COUNT)
        ]

    @property
    def addresses(self) -> tuple[str, ...]:
        """`host:port` of every node, primaries of the start first."""
        return tuple(node.address for node in self.nodes)

    def node(self, address: str) -> RedisNode:
        """The node that clients know by this `host:port`."""
        return next(node for node in self.nodes if node.address == address)

    async def start(self) -> None:
        """Starts the nodes and waits until all of them agree on a whole cluster."""
        shutil.rmtree(self._directory, ignore_errors=True)
        await asyncio.gather(*(node.start() for node in self.nodes))
        await self._form()
        await self.settle()

    async def stop(self) -> None:
        """Ends all nodes; there is nothing to save."""
        await asyncio.gather(*(node.kill() for node in self.nodes))

    async def heal(self) -> None:
        """Thaws, restarts and waits, until the cluster is whole again, whatever was done to it.

        Primaries and replicas may have changed places; restarted nodes come back empty.
        """
        for node in self.nodes:
            node.thaw()
        await asyncio.gather(*(node.start() for node in self.nodes if not node.running))
        await self.settle()

    async def settle(self) -> None:
        """Waits until every node sees 6 nodes and all slots, each with a replica in step."""

        async def whole() -> bool:
            return all(await asyncio.gather(*(_sees_whole(node) for node in self.nodes)))

        # A look is eighteen connections: beside load it must not be the load.
        if not await until(whole, timeout_s=SETTLE_TIMEOUT_S, interval_s=_SETTLE_LOOK_S):
            states = [await _state(node) for node in self.nodes]
            raise StartFailed(f"the cluster did not become whole: {states}")

    async def _form(self) -> None:
        primaries, replicas = self.nodes[:PRIMARY_COUNT], self.nodes[PRIMARY_COUNT:]
        # Before they meet: a config epoch can be given only to a node that knows no other.
        for number, primary in enumerate(primaries):
            first = SLOT_COUNT * number // PRIMARY_COUNT
            last = SLOT_COUNT * (number + 1) // PRIMARY_COUNT - 1
            await _ask(primary, "CLUSTER", "ADDSLOTSRANGE", first, last)
            await _ask(primary, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            host, _, port = node.address.rpartition(":")
            await _ask(self.nodes[0], "CLUSTER", "MEET", host, port, node.bus_port)
        for primary, replica in zip(primaries, replicas, strict=True):
            await _replicate(replica, str(await _ask(primary, "CLUSTER", "MYID")))


async def _ask(node: RedisNode, *command: str | int) -> object:
    async with node.client() as client:
        # Word by word: redis-py reshapes the answers to commands it knows by their full name.
        answer: object = await client.execute_command(*command)  # type: ignore[no-untyped-call]
    return answer


async def _replicate(replica: RedisNode, primary_id: str) -> None:
    async def accepted() -> bool:
        try:
            await _ask(replica, "CLUSTER", "REPLICATE", primary_id)
        except ResponseError:
            return False  # it has not heard of the primary yet
        return True

    if not await until(accepted, timeout_s=SETTLE_TIMEOUT_S):
        raise StartFailed(f"{replica.address} did not become a replica of {primary_id}")


async def _state(node: RedisNode) -> Mapping[str, str]:
    """CLUSTER INFO, or nothing if the node does not answer."""
    try:
        text = str(await _ask(node, "CLUSTER", "INFO"))
    except (RedisError, OSError):
        return {}
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


async def _sees_whole(node: RedisNode) -> bool:
    state = await _state(node)
    expected = {
        "cluster_state": "ok",
        "cluster_slots_ok": str(SLOT_COUNT),
        "cluster_known_nodes": str(NODE_COUNT),
        "cluster_size": str(PRIMARY_COUNT),
    }
    if not expected.items() <= state.items():
        return False
    try:
        slots = await _ask(node, "CLUSTER", "SLOTS")
        role = await _ask(node, "ROLE")
    except (RedisError, OSError):
        return False
    return _all_replicated(slots) and _in_step(role)


def _all_replicated(slots: object) -> bool:
    # Each range is [first, last, primary, replica, ...].
    least = 4
    return isinstance(slots, list) and all(len(part) >= least for part in slots)


def _in_step(role: object) -> bool:
    # ["master", offset, replicas] or ["slave", host, port, link state, offset].
    return isinstance(role, list) and (role[0] == "master" or role[3] == "connected")
