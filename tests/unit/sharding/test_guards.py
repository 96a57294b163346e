"""Who is asked while shards fail, and what the answers say of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import repeat

import pytest

from core.errors import IndexUnavailable
from resilience.breaker import Outcome, State
from resilience.breakers import Breakers
from resilience.faults import Fault, FaultKind
from resilience.overrides import Mode
from sharding.guards import REDIS_BREAKERS, breaker_name
from sharding.replies import NodeLost, Reply, ShardRefused, unavailable
from sharding.router import Router
from sharding.settings import RedisSettings
from tests.unit.resilience.making import NoJitter, Notes, Wishes
from tests.unit.sharding.fake_nodes import HANG_UP, FakeNode, all_slots_at, fake_nodes, redirect

Nodes = tuple[FakeNode, FakeNode]
SHARD = 3
NAME = breaker_name(SHARD)
CALL = (b"CALL",)


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    """The owner of every slot, and another node."""
    async with fake_nodes() as nodes:
        yield nodes


@pytest.fixture
def wishes() -> Wishes:
    """What operators want."""
    return Wishes()


@pytest.fixture
def notes() -> Notes:
    """What was told."""
    return Notes()


@pytest.fixture
def breakers(wishes: Wishes, notes: Notes) -> Breakers:
    """Those of the index."""
    return Breakers(REDIS_BREAKERS, rng=NoJitter(), overrides=wishes, faults=wishes, observer=notes)


@asynccontextmanager
async def routing(node: FakeNode, breakers: Breakers) -> AsyncIterator[Router]:
    """A router that waits for a twentieth of a second."""
    settings = RedisSettings(nodes=(str(node.address),), operation_timeout_s=0.05)
    router = Router(settings, rng=NoJitter(), breakers=breakers)
    await router.open()
    try:
        yield router
    finally:
        await router.aclose()


async def call(router: Router, *shards: int) -> list[Reply]:
    """The replies to a call to some shards; SHARD if none is named."""
    commands = dict.fromkeys(shards or (SHARD,), CALL)
    return list((await router.call_shards(commands, router.deadline())).values())


async def test_a_silent_node_is_not_asked_for_long(nodes: Nodes, breakers: Breakers) -> None:
    """After five calls in vain it is not asked, and callers are told at once when to come again."""
    owner, _ = nodes
    owner.answers = repeat(None)
    async with routing(owner, breakers) as router:
        for _ in range(5):
            assert not isinstance((await call(router))[0], ShardRefused)
        asked = len(owner.calls)
        (reply,) = await call(router)
        assert isinstance(reply, ShardRefused)
        assert 0 < reply.retry_after_s <= 1
        assert len(owner.calls) == asked
    assert breakers[NAME].state is State.OPEN


async def test_a_refused_shard_holds_nobody_up(
    nodes: Nodes, breakers: Breakers, wishes: Wishes
) -> None:
    """The others of its node are asked in the same call."""
    owner, _ = nodes
    wishes.modes[NAME] = Mode.FORCED_OPEN
    async with routing(owner, breakers) as router:
        replies = await call(router, 2, SHARD, 4)
    assert [type(reply) for reply in replies] == [bytes, bytes, ShardRefused]
    assert len(owner.calls) == 2


async def test_cancelled_callers_say_nothing(nodes: Nodes, breakers: Breakers) -> None:
    """However many they are."""
    owner, _ = nodes
    owner.answers = repeat(None)
    async with routing(owner, breakers) as router:
        for _ in range(20):
            caller = asyncio.create_task(call(router))
            await asyncio.sleep(0)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
    assert breakers[NAME].state is State.CLOSED
    assert breakers[NAME].counts()["neutral"] == 20


async def test_a_moved_shard_begins_anew(nodes: Nodes, breakers: Breakers) -> None:
    """What failed at its old node does not count against its new one."""
    owner, other = nodes
    owner.answers = repeat(redirect("MOVED", other))
    async with routing(owner, breakers) as router:
        for name in (NAME, breaker_name(4)):
            breakers[name].settle(breakers[name].admit(), Outcome.LOST, 0)
        owner.slots = other.slots = all_slots_at(other)
        assert await call(router) == [b"OK"]
        assert breakers[NAME].losses == 0
        await router._refresh()
        assert breakers[breaker_name(4)].losses == 0


async def test_redirects_and_refusals_of_ours_are_no_failures(
    nodes: Nodes, breakers: Breakers
) -> None:
    """A slot on its way tells nothing of its node; a node that is loading does."""
    owner, _ = nodes
    async with routing(owner, breakers) as router:
        for answer, failed in ((b"-TRYAGAIN x\r\n", 0), (b"-LOADING x\r\n", 1)):
            owner.answers = repeat(answer)
            await call(router)
            assert breakers[NAME].counts()["failed"] == failed


async def test_second_tries_are_paid_for(nodes: Nodes, breakers: Breakers, notes: Notes) -> None:
    """A lost connection is made good from the budget; without one the loss is told."""
    owner, _ = nodes
    async with routing(owner, breakers) as router:
        owner.answers = iter([b"+OK\r\n", HANG_UP, b"+OK\r\n"])
        await call(router)
        assert await call(router) == [b"OK"]
        while breakers.budget.spend():
            pass
        owner.answers = iter([HANG_UP, b"+OK\r\n"])
        assert isinstance((await call(router))[0], NodeLost)
    assert notes.retries == [False, True]


@pytest.mark.parametrize("kind", [FaultKind.ERROR, FaultKind.TIMEOUT])
async def test_an_injected_fault_takes_down_its_shard_alone(
    nodes: Nodes, breakers: Breakers, wishes: Wishes, kind: FaultKind
) -> None:
    """The node is not asked for it, and after five its breaker is open."""
    owner, _ = nodes
    wishes.faults[NAME] = Fault(kind, 1.0)
    async with routing(owner, breakers) as router:
        for _ in range(5):
            replies = await call(router, 2, SHARD)
            assert {type(reply) for reply in replies} == {bytes, NodeLost}
    assert len(owner.calls) == 5
    assert breakers[NAME].state is State.OPEN
    assert breakers[breaker_name(2)].counts()["ok"] == 5


async def test_injected_latency_counts_as_slow(
    nodes: Nodes, breakers: Breakers, wishes: Wishes
) -> None:
    """Every call is answered, and ten slow ones open the breaker."""
    owner, _ = nodes
    wishes.faults[NAME] = Fault(FaultKind.LATENCY, 1.0, 60)
    async with routing(owner, breakers) as router:
        deadline = asyncio.get_running_loop().time() + 5
        for _ in range(10):
            replies = await router.call_shards({2: CALL, SHARD: CALL}, deadline)
            assert set(replies.values()) == {b"OK"}
    assert breakers[NAME].state is State.OPEN
    assert breakers[breaker_name(2)].state is State.CLOSED


def test_a_refusal_says_when_to_come_again() -> None:
    """Callers are told what the breaker knows; of other losses nothing is known."""
    assert unavailable({0: ShardRefused(0.7)}).retry_after_ms == 700
    assert unavailable({0: ShardRefused(0.0)}).retry_after_ms == 1
    assert unavailable({0: NodeLost()}).retry_after_ms == IndexUnavailable.retry_after_ms
