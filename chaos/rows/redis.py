"""Rows 1 to 9 and 16: the nodes of the index."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from redis.exceptions import RedisError

from bootstrap.embedded.redis_node import RedisNode
from chaos.admin import admin_of
from chaos.proxy import Fault, Mode, is_replication
from chaos.row import Expected, Row, Scene
from chaos.slots import moved

_SHARD: Final = 2
_PULSE_S: Final = 0.5
_OPEN_S_MAX: Final = 1.0
_OTHERS: Final = frozenset({"DATABASE", "SNAPSHOT"})


async def mend(scene: Scene) -> None:
    """Everything back as it was."""
    await scene.deployment.heal()


async def until_open(scene: Scene, beginning: str, *, within_s: float) -> None:
    """A breaker has to open soon after a freeze."""
    async with admin_of(scene.deployment.admin_address) as admin:
        if await admin.opened_after(beginning, timeout_s=within_s) is None:
            scene.notes.append(f"no breaker of {beginning}* was open after {within_s:.0f} s")


async def kill_a_primary(scene: Scene) -> None:
    """SIGKILL; its replica takes over."""
    await (await scene.deployment.primary_of(_SHARD)).kill()
    await asyncio.sleep(scene.seconds(12, 8))


async def freeze_a_primary(scene: Scene) -> None:
    """SIGSTOP for 10 s; it comes back as a replica."""
    node = await scene.deployment.primary_of(_SHARD)
    node.freeze()
    await until_open(scene, "redis/shard-", within_s=_OPEN_S_MAX)
    await asyncio.sleep(scene.seconds(10, 8))
    node.thaw()


async def kill_a_pair(scene: Scene) -> None:
    """A primary and its replica, so that nobody can take over."""
    primary = await scene.deployment.primary_of(_SHARD)
    replica = await scene.deployment.replica_of(primary)
    await asyncio.gather(replica.kill(), primary.kill())
    await asyncio.sleep(scene.seconds(15, 6))


async def kill_all(scene: Scene) -> None:
    """All six; they come back empty."""
    await asyncio.gather(*(node.kill() for node in scene.deployment.nodes))
    await asyncio.sleep(scene.seconds(30, 8))
    # What is measured from the mending on is the noticing and the rebuild.
    await scene.deployment.stack.redis.heal()


async def lose_writes(scene: Scene) -> None:
    """What the primary tells its replica gets lost on the way; then the primary dies, and the
    replica takes over without these writes.
    """
    primary = await scene.deployment.primary_of(_SHARD)
    proxy = scene.deployment.proxy_of(primary)
    proxy.set(Fault(Mode.BLACKHOLE, only=is_replication))
    await asyncio.sleep(scene.seconds(3, 1.5))
    await primary.kill()
    await asyncio.sleep(scene.seconds(12, 8))


async def slow_a_node(scene: Scene) -> None:
    """200 ms more for each answer of one node."""
    node = await scene.deployment.primary_of(_SHARD)
    slow = Fault(Mode.DELAY, delay_s=0.2, only=lambda first: not is_replication(first))
    scene.deployment.proxy_of(node).set(slow)
    await asyncio.sleep(scene.seconds(15, 8))


async def narrow_the_way(scene: Scene) -> None:
    """1 Mbit/s to each node."""
    for proxy in scene.deployment.node_proxies:
        narrow = Fault(Mode.THROTTLE, only=lambda first: not is_replication(first))
        proxy.set(narrow)
    await asyncio.sleep(scene.seconds(15, 6))


async def disturb_connections(scene: Scene) -> None:
    """Resets, noise and silence in turn, to one node after the other and to PostgreSQL."""
    proxies = [*scene.deployment.node_proxies, scene.deployment.postgres_proxy]
    modes = (Mode.RESET, Mode.CORRUPT, Mode.HALF_CLOSE, Mode.BLACKHOLE)
    rounds = max(1, round(4 * scene.scale))
    for _ in range(rounds):
        for proxy in proxies:
            postgres = proxy is scene.deployment.postgres_proxy
            for mode in modes[:1] if postgres else modes:
                proxy.set(Fault(mode, corrupt_share=0.2))
                await asyncio.sleep(_PULSE_S)
                # What was swallowed is missing for ever: such a connection is of no more use.
                proxy.cut()
                proxy.set(Fault())
                await asyncio.sleep(_PULSE_S / 2)


async def move_slots(scene: Scene) -> None:
    """Shards wander to another primary and back, key by key, while all goes on."""
    for shard in (_SHARD, _SHARD + 8):
        source = await scene.deployment.primary_of(shard)
        target = await scene.deployment.primary_of((shard + 6) % 16)
        async with moved(scene.deployment, shard, source, target):
            await asyncio.sleep(scene.seconds(4, 1.5))


async def fill_memory(scene: Scene) -> None:
    """One node has no room for anything more."""
    node = await scene.deployment.primary_of(_SHARD)
    await _configure([node], "maxmemory", "1mb")
    await asyncio.sleep(scene.seconds(10, 5))


async def make_room(scene: Scene) -> None:
    """And has it again."""
    await _configure(scene.deployment.nodes, "maxmemory", "0")
    await scene.deployment.heal()


async def _configure(nodes: Sequence[RedisNode], name: str, value: str) -> None:
    for node in nodes:
        with suppress(RedisError, OSError):
            async with node.client() as client:
                await client.config_set(name, value)


ROWS: Final = (
    Row(
        1, "Redis primary killed", kill_a_primary, mend, short=True,
        expected=Expected(reads_min=0.999, writes_min=0.999, degrades_s=6.0),
    ),
    Row(
        2, "Redis primary frozen", freeze_a_primary, mend, short=True,
        expected=Expected(reads_min=0.999, writes_min=0.999, degrades_s=1.0),
    ),
    Row(
        3, "Redis primary and its replica killed", kill_a_pair, mend,
        expected=Expected(reads_min=0.99, writes_min=0.999, sources=_OTHERS, heals_s=20.0),
    ),
    Row(
        4, "all of Redis killed, back empty", kill_all, mend, short=True, index="down",
        expected=Expected(
            reads_min=0.99, writes_min=0.99, sources=_OTHERS, heals_s=17.0, converges_s=60.0
        ),
    ),
    Row(
        5, "replication cut, then the primary killed", lose_writes, mend,
        expected=Expected(reads_min=0.99, writes_min=0.999),
    ),
    Row(
        6, "one Redis node slow by 200 ms", slow_a_node, mend,
        expected=Expected(reads_min=0.99, writes_min=0.99, degrades_s=3.0),
    ),
    Row(
        7, "1 Mbit/s to each Redis node", narrow_the_way, mend,
        expected=Expected(reads_min=0.99, writes_min=0.99),
    ),
    Row(
        8, "connections reset, noise, silence", disturb_connections, mend,
        expected=Expected(reads_min=0.95, heals_s=12.0),
    ),
    Row(
        9, "shards move to other nodes", move_slots, mend, short=True,
        expected=Expected(reads_min=0.999, writes_min=0.999),
    ),
    Row(
        16, "one Redis node out of memory", fill_memory, make_room,
        expected=Expected(reads_min=0.999, writes_min=0.999),
    ),
)  # fmt: skip
