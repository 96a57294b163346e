"""Moving a shard's slot to another primary, as `redis-cli --cluster reshard` does it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from redis.exceptions import RedisError

from bootstrap.embedded.ports import LOOPBACK
from bootstrap.embedded.redis_node import RedisNode
from chaos.deployment import Deployment
from sharding.keys import SLOTS

_KEYS_MAX: Final = 100
_TIMEOUT_MS: Final = 5_000


@asynccontextmanager
async def moved(
    deployment: Deployment, shard: int, source: RedisNode, target: RedisNode
) -> AsyncIterator[None]:
    """A shard lives on another node meanwhile."""
    await move(deployment, shard, source, target)
    yield
    await move(deployment, shard, target, source)


async def move(deployment: Deployment, shard: int, source: RedisNode, target: RedisNode) -> None:
    """Moves a shard key by key; whoever asks meanwhile is sent on."""
    if source is target:
        return
    slot = SLOTS[shard]
    source_id, target_id = (
        await _run(source, "CLUSTER", "MYID"),
        await _run(target, "CLUSTER", "MYID"),
    )
    await _run(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    await _run(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    while keys := await _run(source, "CLUSTER", "GETKEYSINSLOT", slot, _KEYS_MAX):
        for key in keys:
            await _run(source, "MIGRATE", LOOPBACK, target.port, key, 0, _TIMEOUT_MS)
    # The new owner first: who is sent on finds it decided.
    for node in (target, source, *deployment.nodes):
        with suppress(RedisError):
            await _run(node, "CLUSTER", "SETSLOT", slot, "NODE", target_id)


async def _run(node: RedisNode, *command: str | int) -> Any:  # noqa: ANN401 - whatever it replies
    async with node.client() as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]
