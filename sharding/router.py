"""Brings commands to the nodes that own the shards, through moves, failovers and lost connections.

Every command may safely be carried out twice: applies are conditional on revisions, and the steps
of a build on a token and a counter. That is what allows the second tries here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from resilience.breaker import Outcome
from resilience.breakers import Breakers
from resilience.deadline import SHORT_S, left_s
from sharding.guards import REDIS_BREAKERS, Passage, ShardGuards
from sharding.keys import SHARDS, meta_key
from sharding.library import Command
from sharding.node import Node, NodeOptions
from sharding.node_spans import NodeObserver
from sharding.replies import Answer, NoAnswer, NodeLost, Reply, Trouble, target_of, trouble_in
from sharding.settings import RedisSettings
from sharding.slot_map import Address, SlotMap

_HOPS_MAX: Final = 3
_PAUSES_S: Final = (0.002, 0.004, 0.008, 0.016, 0.032, 0.05, 0.05, 0.05)
"""Between tries while the keys of a moving slot are on two nodes; then the shard counts as lost."""
_REFRESH_GAP_S: Final = 1.0
"""Between two refreshes of the slot map: in a failover every call asks for one."""

_ASKING: Final[Command] = (b"ASKING",)
_CLUSTER_SLOTS: Final[Command] = (b"CLUSTER", b"SLOTS")


@dataclass(slots=True)
class _Route:
    """Where a command for one shard goes next, and how often it went already."""

    address: Address
    asking: bool = False
    hops: int = 0
    pauses: int = 0
    installs: int = 0
    losses: int = 0


class Router:
    """The nodes of a cluster and the map of the shards. Use between `open` and `aclose`."""

    def __init__(
        self,
        settings: RedisSettings,
        *,
        rng: random.Random,
        breakers: Breakers | None = None,
        observer: NodeObserver | None = None,
    ) -> None:
        """Without `breakers` it has its own. `observer` is told of every round trip."""
        self.guards = ShardGuards(breakers or Breakers(REDIS_BREAKERS, rng=rng))
        self._settings = settings
        self._observer = observer
        self._options = NodeOptions.of(settings, rng)
        self._seeds = [Address.parse(node) for node in settings.nodes]
        self._nodes: dict[Address, Node] = {}
        self._map = SlotMap()
        self._map_doubted = asyncio.Event()
        self._map_keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Learns the map, and keeps it. A cluster that is down now may come later."""
        await self._refresh()
        self._map_keeper = asyncio.create_task(self._keep_map())

    async def aclose(self) -> None:
        """Closes every connection; whatever waits on them is lost."""
        if self._map_keeper is not None:
            self._map_keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._map_keeper
        await asyncio.gather(*(node.aclose() for node in self._nodes.values()))
        self._nodes.clear()

    def deadline(self) -> float:
        """The latest end of an operation that starts now, by the loop's clock."""
        return self._after(self._settings.operation_timeout_s)

    def read_deadline(self) -> float:
        """The same for a read."""
        return self._after(self._settings.read_timeout_s)

    def may_try_again(self, shard: int, deadline: float) -> bool:
        """Whether a call that was lost may be made once more."""
        in_time = asyncio.get_running_loop().time() < deadline
        return in_time and self.guards.may_try_again(shard)

    def owner(self, shard: int) -> Address | None:
        """The node that owns a shard, as far as we know."""
        return self._map.owners[shard]

    def by_node(self, shards: Iterable[int]) -> dict[Address, list[int]]:
        """Shards by the node that owns them; those without a known owner are left out."""
        return self._map.by_node(shards)

    async def call_nodes(
        self, calls: Mapping[Address, Sequence[Command]], deadline: float
    ) -> dict[Address, Answer | NodeLost]:
        """Sends each node its commands, all nodes at once, and returns what came in time.

        Redirects are not followed: these commands are not about one shard.
        """
        answers = await self._exchange(calls, deadline)
        bare = [address for address, answer in answers.items() if _lacks_functions(answer)]
        if bare:
            await asyncio.gather(*(self._node(address).install() for address in bare))
            answers |= await self._exchange({address: calls[address] for address in bare}, deadline)
        return answers

    async def call_shards(
        self, commands: Mapping[int, Command], deadline: float
    ) -> dict[int, Reply]:
        """Sends each shard its command, those of one node in one write, and follows each to where
        its shard is. The keys of the command must be declared.

        Shards whose breaker is open are not asked; their reply is ShardRefused.
        """
        with self.guards.admit(commands, deadline) as passage:
            replies = await self.guards.through(
                passage,
                deadline,
                lambda: self.follow_shards(
                    {shard: commands[shard] for shard in passage.shards}, deadline, passage
                ),
            )
            passage.settle(replies)
        replies |= passage.refused
        return replies

    async def follow_shards(
        self, commands: Mapping[int, Command], deadline: float, passage: Passage | None = None
    ) -> dict[int, Reply]:
        """As call_shards, for shards that were let through."""
        groups = self.by_node(commands)
        calls = {node: [commands[shard] for shard in shards] for node, shards in groups.items()}
        replies: dict[int, Reply] = dict.fromkeys(commands, NodeLost("no node is known to own it"))
        for node, answer in (await self._exchange(calls, deadline)).items():
            if isinstance(answer, NodeLost):
                replies.update(dict.fromkeys(groups[node], answer))
            else:
                replies.update(zip(groups[node], answer, strict=True))
                if passage is not None:
                    passage.took(groups[node], answer.took_s)
        troubled = [shard for shard in commands if trouble_in(replies[shard]) is not None]
        if troubled:
            followed = await asyncio.gather(
                *(self._follow(s, commands[s], replies[s], deadline) for s in troubled)
            )
            replies.update(zip(troubled, followed, strict=True))
        return replies

    async def probe(self, shard: int) -> Outcome:
        """What a cheap read of a shard says, whatever its breaker says."""
        deadline = self.read_deadline()
        command: Command = (b"EXISTS", meta_key(shard))
        reply = (await self.follow_shards({shard: command}, deadline))[shard]
        match trouble_in(reply):
            case None:
                return Outcome.OK
            case Trouble.LOST:
                return Outcome.LOST
        return Outcome.FAILED

    async def _follow(self, shard: int, command: Command, reply: Reply, deadline: float) -> Reply:
        """Sends a command on until it is answered, or until its route ends."""
        owner = self.owner(shard)
        if owner is None:
            self._map_doubted.set()
            return reply
        route = _Route(owner)
        loop = asyncio.get_running_loop()
        # Without time for an answer, whatever the trouble is would only turn into a lost node.
        last_s = deadline - SHORT_S
        while (trouble := trouble_in(reply)) is not None and loop.time() < last_s:
            if not await self._redirect(route, shard, trouble, reply) or loop.time() >= last_s:
                break
            commands = [_ASKING, command] if route.asking else [command]
            answer = (await self._exchange({route.address: commands}, deadline))[route.address]
            reply = answer if isinstance(answer, NodeLost) else answer[-1]
        return reply

    async def _redirect(self, route: _Route, shard: int, trouble: Trouble, reply: Reply) -> bool:
        """Points a route to where its command goes next; False where that is nowhere."""
        if trouble in (Trouble.MOVED, Trouble.ASK):
            route.hops += 1
            route.address = target_of(reply, asked=route.address)
            route.asking = trouble is Trouble.ASK
            if trouble is Trouble.MOVED:
                self._take(self._map.moved(shard, route.address))
                self._map_doubted.set()
            return route.hops <= _HOPS_MAX
        if trouble is Trouble.TRY_AGAIN:
            if route.pauses == len(_PAUSES_S):
                return False
            await asyncio.sleep(_PAUSES_S[route.pauses])
            route.pauses += 1
            self._restart(route, shard)
            return True
        if trouble is Trouble.FUNCTION_MISSING:
            route.installs += 1
            if route.installs == 1:
                await self._node(route.address).install()
            return route.installs == 1
        self._map_doubted.set()
        if trouble is Trouble.LOST:
            route.losses += 1
            self._restart(route, shard)
            return route.losses == 1 and self.guards.may_try_again(shard)
        return False

    def _restart(self, route: _Route, shard: int) -> None:
        """Back to the owner, where the search began: it may be another one by now."""
        route.address = self.owner(shard) or route.address
        route.asking = False

    async def _exchange(
        self, calls: Mapping[Address, Sequence[Command]], deadline: float
    ) -> dict[Address, Answer | NodeLost]:
        """One round trip to some nodes; those that do not answer in time are lost."""
        futures = {node: self._node(node).send(commands) for node, commands in calls.items()}
        answers: dict[Address, Answer | NodeLost] = {}
        if not futures:
            return answers
        began_s = asyncio.get_running_loop().time()
        await _done_by(deadline, futures.values())
        for node, future in futures.items():
            in_time = future.done() and not future.cancelled()
            # What was given up is dropped when it comes.
            answer = future.result() if in_time else NoAnswer("no answer in time")
            if isinstance(answer, NodeLost):
                self._map_doubted.set()
            answers[node] = answer
        if self._observer is not None:
            self._observer.exchanged(calls, answers, began_s)
        return answers

    def _node(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = Node(address, self._options)
        return node

    async def _keep_map(self) -> None:
        while True:
            # While shards are not asked, nobody finds out that they moved.
            if not self.guards.any_shut:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.map_refresh_s):
                        await self._map_doubted.wait()
            await self._refresh()
            # After it, so that a dead node met on the way does not ask for the next one.
            self._map_doubted.clear()
            await asyncio.sleep(_REFRESH_GAP_S)

    async def _refresh(self) -> None:
        """Asks one node after the other for the map, until one knows it.

        In random order, because a node that is cut off from the others still tells its old map.
        """
        known = sorted(self._map.nodes)
        self._options.rng.shuffle(known)
        for address in (*known, *self._seeds):
            deadline = self.deadline()
            answer = (await self._exchange({address: [_CLUSTER_SLOTS]}, deadline))[address]
            if isinstance(answer, NodeLost):
                continue
            with suppress(ValueError):
                fresh = SlotMap.parse(answer[0], asked=address)
                if any(fresh.owners[shard] is not None for shard in SHARDS):
                    self._take(fresh)
                    await self._forget_strangers()
                    return

    def _take(self, fresh: SlotMap) -> None:
        """Puts a map in place. What failed elsewhere does not count against a shard's new node."""
        for shard, (old, new) in enumerate(zip(self._map.owners, fresh.owners, strict=True)):
            if old is not None and new is not None and old != new:
                self.guards.renew(shard)
        self._map = fresh

    def _after(self, timeout_s: float) -> float:
        return asyncio.get_running_loop().time() + left_s(self.guards.patience_s(timeout_s))

    async def _forget_strangers(self) -> None:
        strangers = [
            address
            for address, node in self._nodes.items()
            if address not in self._map.nodes and node.idle
        ]
        for address in strangers:
            await self._nodes.pop(address).aclose()


async def _done_by(deadline: float, futures: Collection[asyncio.Future[Any]]) -> None:
    """Waits until all are done, and cancels those that are not by then, or when its caller gives
    up. As asyncio.wait, in 4 us where that takes 6, because it takes nothing but futures.
    """
    loop = asyncio.get_running_loop()
    all_done: asyncio.Future[None] = loop.create_future()
    left = len(futures)

    def one_done(_: asyncio.Future[Any]) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            _release(all_done)

    for future in futures:
        future.add_done_callback(one_done)
    timer = loop.call_at(deadline, _release, all_done)
    try:
        await all_done
    finally:
        timer.cancel()
        if left:
            for future in futures:
                future.cancel()


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _lacks_functions(answer: Answer | NodeLost) -> bool:
    return not isinstance(answer, NodeLost) and any(
        trouble_in(reply) is Trouble.FUNCTION_MISSING for reply in answer
    )
