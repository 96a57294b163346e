"""The reply to CLUSTER SLOTS as a map of the shards."""

from __future__ import annotations

import pytest

from sharding.keys import SLOTS
from sharding.slot_map import Address, SlotMap

ASKED = Address("10.0.0.9", 7000)
LOW, HIGH, REPLICA = Address("a", 1), Address("b", 2), Address("c", 3)
REPLY = [
    [8192, 16383, [b"b", 2, b"id2", []]],
    [0, 8191, [b"a", 1, b"id1", []], [b"c", 3, b"id3", []]],
]


def test_each_shard_has_the_owner_of_its_slot() -> None:
    """Ranges in any order; replicas own nothing but are known."""
    found = SlotMap.parse(REPLY, asked=ASKED)

    assert found.owners == (LOW,) * 8 + (HIGH,) * 8
    assert found.nodes == {LOW, HIGH, REPLICA}


def test_slots_nobody_has_leave_their_shards_without_an_owner() -> None:
    """Gaps before, between and after the ranges are gaps."""
    reply = [
        [SLOTS[1], SLOTS[2] - 1, [b"a", 1, b"id"]],
        [SLOTS[4] + 1, SLOTS[5], [b"a", 1, b"id"]],
    ]

    found = SlotMap.parse(reply, asked=ASKED)

    assert [shard for shard in range(16) if found.owners[shard]] == [1, 5]
    assert found.by_node(range(16)) == {LOW: [1, 5]}


@pytest.mark.parametrize("host", [b"", None])
def test_a_node_without_a_name_is_where_it_was_asked(host: bytes | None) -> None:
    """Redis leaves its own host out when it does not know it."""
    found = SlotMap.parse([[0, 16383, [host, 7001, b"id"]]], asked=ASKED)

    assert found.owners == (Address("10.0.0.9", 7001),) * 16


@pytest.mark.parametrize("reply", [None, b"OK", [[1, 2]], [[1, 2, [3, b"a"]]], ValueError()])
def test_anything_else_is_refused(reply: object) -> None:
    """An error or nonsense is no map."""
    with pytest.raises(ValueError, match="not a slot map"):
        SlotMap.parse(reply, asked=ASKED)


def test_shards_are_grouped_by_owner_in_the_order_asked() -> None:
    """One list a node."""
    found = SlotMap.parse(REPLY, asked=ASKED)

    assert found.by_node([9, 3, 8, 0]) == {HIGH: [9, 8], LOW: [3, 0]}


def test_one_shard_can_be_moved() -> None:
    """The others stay, and the new node is known."""
    new = Address("d", 4)

    found = SlotMap.parse(REPLY, asked=ASKED).moved(5, new)

    assert [shard for shard in range(16) if found.owners[shard] == new] == [5]
    assert new in found.nodes


@pytest.mark.parametrize(
    ("text", "address"),
    [("h:1", Address("h", 1)), ("[::1]:2", Address("::1", 2)), (":3", Address("asked", 3))],
)
def test_addresses_are_read(text: str, address: Address) -> None:
    """Names, IPv6 in brackets, and no host at all."""
    assert Address.parse(text, default_host="asked") == address
