"""Commands to single nodes of the cluster, and a shard that moves step by step."""

from __future__ import annotations

import asyncio
from typing import Any

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.embedded.redis_node import RedisNode
from bootstrap.embedded.waiting import until
from sharding.keys import SLOTS


async def run(node: RedisNode, *command: bytes | str | int) -> Any:
    """A node's reply to a command."""
    async with node.client() as client:
        return await client.execute_command(*command)


async def primaries(cluster: EmbeddedRedisCluster) -> list[RedisNode]:
    """The nodes that say they are primaries; earlier tests may have made others of them."""
    roles = await asyncio.gather(*(run(node, "ROLE") for node in cluster.nodes))
    return [node for node, role in zip(cluster.nodes, roles, strict=True) if role[0] == "master"]


async def owner(
    cluster: EmbeddedRedisCluster, shard: int, *, asked: RedisNode | None = None
) -> RedisNode:
    """The primary of a shard, as one of the nodes sees it."""
    for first, last, primary, *_ in await run(asked or cluster.nodes[0], "CLUSTER", "SLOTS"):
        if first <= SLOTS[shard] <= last:
            return cluster.node(f"{primary[0]}:{primary[1]}")
    raise LookupError(shard)


async def replicated(node: RedisNode) -> bool:
    """Whether a replica has all that a primary holds now, after a wait of half a second at most."""
    async with node.client() as client:
        # WAIT looks back to the last command of its own connection.
        await client.ping()
        return await client.wait(1, 500) >= 1


class Move:
    """A shard whose slot is on its way to another primary."""

    def __init__(
        self, cluster: EmbeddedRedisCluster, shard: int, source: RedisNode, target: RedisNode
    ) -> None:
        self._cluster = cluster
        self._shard = shard
        self._source = source
        self.target = target

    async def begin(self) -> None:
        """Opens the slot; all its keys are still at the source."""
        await self._set(self.target, "IMPORTING", await run(self._source, "CLUSTER", "MYID"))
        await self._set(self._source, "MIGRATING", await run(self.target, "CLUSTER", "MYID"))

    async def carry(self, *keys: bytes) -> None:
        """Moves some keys of the open slot."""
        host, _, port = self.target.address.rpartition(":")
        await run(self._source, "MIGRATE", host, port, "", 0, 5000, "KEYS", *keys)

    async def end(self) -> None:
        """Gives the open slot to the target, which is told first."""
        target_id = await run(self.target, "CLUSTER", "MYID")
        await self._set(self.target, "NODE", target_id)
        for node in await primaries(self._cluster):
            if node is not self.target:
                await self._set(node, "NODE", target_id)

    async def undo(self) -> None:
        """Ends the move of a shard that is empty by now, wherever it stands, back at its source."""
        for node in await primaries(self._cluster):
            await self._set(node, "STABLE")
        if await owner(self._cluster, self._shard, asked=self.target) is self.target:
            # As a move of its own: only an import gives the source the epoch that others heed.
            back = Move(self._cluster, self._shard, self.target, self._source)
            await back.begin()
            await back.end()
        assert await until(self._all_name_the_source, timeout_s=20)

    async def _set(self, node: RedisNode, *state: str) -> None:
        await run(node, "CLUSTER", "SETSLOT", SLOTS[self._shard], *state)

    async def _all_name_the_source(self) -> bool:
        for node in self._cluster.nodes:
            if await owner(self._cluster, self._shard, asked=node) is not self._source:
                return False
        return True
