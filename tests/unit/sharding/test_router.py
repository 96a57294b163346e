"""Where the router sends a call next, how often, and what it asks of the map."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise, repeat

import pytest

from sharding import router as router_module
from sharding.replies import NodeLost, Reply
from sharding.router import Router
from sharding.slot_map import Address
from tests.unit.sharding.fake_nodes import (
    HANG_UP,
    FakeNode,
    all_slots_at,
    fake_nodes,
    redirect,
    routing,
)

Nodes = tuple[FakeNode, FakeNode]
SHARD = 3
CALL = (b"CALL",)
DONE = b"+DONE\r\n"


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    """The owner of every slot, and another node."""
    async with fake_nodes() as nodes:
        yield nodes


async def call(router: Router) -> Reply:
    """The reply to a call to SHARD."""
    return (await router.call_shards({SHARD: CALL}, router.deadline()))[SHARD]


async def test_an_asked_call_goes_to_another_node_once(nodes: Nodes) -> None:
    """ASK is followed with ASKING right before the call, and the map stays as it is."""
    owner, other = nodes
    owner.answers = iter([redirect("ASK", other)])
    other.answers = iter([b"+OK\r\n", DONE])

    async with routing(owner.address) as router:
        assert await call(router) == b"DONE"
        assert router.owner(SHARD) == owner.address
    assert other.calls == [[b"ASKING"], [b"CALL"]]
    # That of the opening: ASK is no reason to doubt the map.
    assert len(owner.slots_asked_at_s + other.slots_asked_at_s) == 1


async def test_a_moved_shard_is_remembered(nodes: Nodes) -> None:
    """The next call goes to the new owner at once, even while no node tells a map."""
    owner, other = nodes
    owner.answers = iter([redirect("MOVED", other)])

    async with routing(owner.address) as router:
        owner.slots = other.slots = b"-CLUSTERDOWN\r\n"
        for _ in range(2):
            assert await call(router) == b"OK"
    assert (len(owner.calls), len(other.calls)) == (1, 2)


async def test_redirects_that_never_end_are_given_up(nodes: Nodes) -> None:
    """Two nodes that point at each other are asked four times in all."""
    for node, pointed_at in (nodes, nodes[::-1]):
        node.answers = repeat(redirect("MOVED", pointed_at))

    async with routing(nodes[0].address) as router:
        assert str(await call(router)).startswith("MOVED")
    assert [len(node.calls) for node in nodes] == [2, 2]


async def test_a_slot_that_stays_between_two_nodes_is_given_up(nodes: Nodes) -> None:
    """TRYAGAIN is tried again after each of the eight pauses."""
    owner, _ = nodes
    owner.answers = repeat(b"-TRYAGAIN\r\n")

    async with routing(owner.address) as router:
        assert str(await call(router)) == "TRYAGAIN"
    assert len(owner.calls) == 9


async def test_after_a_pause_the_search_begins_at_the_owner(nodes: Nodes) -> None:
    """The keys that an importing node lacks may be at their owner still."""
    owner, other = nodes
    owner.answers = iter([redirect("ASK", other), DONE])
    other.answers = iter([b"+OK\r\n", b"-TRYAGAIN\r\n"])

    async with routing(owner.address) as router:
        assert await call(router) == b"DONE"
    assert owner.calls == [[b"CALL"], [b"CALL"]]
    assert other.calls == [[b"ASKING"], [b"CALL"]]


async def test_a_call_whose_connection_broke_is_sent_again(nodes: Nodes) -> None:
    """Once, over a new connection."""
    owner, _ = nodes
    owner.answers = iter([HANG_UP, DONE])

    async with routing(owner.address) as router:
        assert await call(router) == b"DONE"
    assert len(owner.calls) == 2


async def test_a_call_that_breaks_every_connection_is_lost(nodes: Nodes) -> None:
    """It is not sent a third time."""
    owner, _ = nodes
    owner.answers = repeat(HANG_UP)

    async with routing(owner.address) as router:
        assert isinstance(await call(router), NodeLost)
    assert len(owner.calls) == 2


async def test_a_silent_node_costs_one_deadline(nodes: Nodes) -> None:
    """What was not answered in time is lost, and there is no time for a second try."""
    owner, _ = nodes
    owner.answers = repeat(None)

    async with routing(owner.address, operation_timeout_s=0.2) as router:
        started = asyncio.get_running_loop().time()
        assert isinstance(await call(router), NodeLost)
        assert asyncio.get_running_loop().time() - started < 0.4
    assert len(owner.calls) == 1


async def test_a_node_that_takes_no_functions_is_given_up(nodes: Nodes) -> None:
    """The call that finds none is sent a second time, and no third."""
    owner, _ = nodes
    owner.answers = repeat(b"-ERR Function not found\r\n")

    async with routing(owner.address) as router:
        assert "Function not found" in str(await call(router))
    assert len(owner.calls) == 2


async def test_seeds_that_tell_no_map_are_passed_over(nodes: Nodes) -> None:
    """One that is away, and one that knows of no slots or answers an error."""
    owner, other = nodes
    away = Address("127.0.0.1", 1)
    for no_map in (b"*0\r\n", b"-CLUSTERDOWN\r\n"):
        other.slots = no_map
        async with routing(away, other.address, owner.address) as router:
            assert router.owner(SHARD) == owner.address


async def test_the_map_is_asked_for_at_most_once_a_gap(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many calls doubt it, as they do in a failover."""
    monkeypatch.setattr(router_module, "_REFRESH_GAP_S", 0.1)
    owner, _ = nodes
    owner.answers = repeat(b"-CLUSTERDOWN\r\n")

    async with routing(owner.address) as router:
        while len(owner.slots_asked_at_s) < 4:
            await call(router)

    # The first one is that of the opening.
    moments = owner.slots_asked_at_s[1:]
    assert all(later - earlier >= 0.1 for earlier, later in pairwise(moments))


async def test_a_node_that_left_the_cluster_is_let_go(nodes: Nodes) -> None:
    """Its connection is closed once a map does without it."""
    owner, other = nodes
    owner.answers = iter([redirect("MOVED", other)])

    async with routing(owner.address) as router:
        owner.slots = other.slots = all_slots_at(other)
        await call(router)
        await owner.hung_up.wait()
        assert router.owner(SHARD) == other.address
