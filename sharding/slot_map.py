"""Which node owns which shard, as CLUSTER SLOTS tells it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from sharding.keys import SLOTS


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, *, default_host: str = "") -> Address:
        """The address in host:port; a node that does not know its own host leaves it out."""
        host, _, port = text.rpartition(":")
        return cls(host.strip("[]") or default_host, int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SlotMap:
    """The owner of each shard (None: nobody known), and every node that was named."""

    owners: tuple[Address | None, ...] = (None,) * len(SLOTS)
    nodes: frozenset[Address] = frozenset()

    @classmethod
    def parse(cls, reply: object, *, asked: Address) -> SlotMap:
        """The map in a reply to CLUSTER SLOTS. Raises ValueError if it is none.

        A node that does not know its own address sends none: then it is the one asked.
        """
        ranges: list[tuple[int, int, Address]] = []
        nodes: set[Address] = set()
        for row in reply if isinstance(reply, list) else [reply]:
            match row:
                case [int(first), int(last), list(primary), *replicas]:
                    owner = _address(primary, asked)
                    ranges.append((first, last, owner))
                    nodes.update((owner, *(_address(replica, asked) for replica in replicas)))
                case _:
                    raise ValueError("not a slot map")
        ranges.sort()
        return cls(tuple(_owner(ranges, slot) for slot in SLOTS), frozenset(nodes))

    def moved(self, shard: int, address: Address) -> SlotMap:
        """The same map with one shard elsewhere."""
        owners = (*self.owners[:shard], address, *self.owners[shard + 1 :])
        return replace(self, owners=owners, nodes=self.nodes | {address})

    def by_node(self, shards: Iterable[int]) -> dict[Address, list[int]]:
        """The shards by owner, in the order given; those without an owner are left out."""
        nodes: dict[Address, list[int]] = {}
        for shard in shards:
            owner = self.owners[shard]
            if owner is not None:
                nodes.setdefault(owner, []).append(shard)
        return nodes


def _address(node: object, asked: Address) -> Address:
    match node:
        case [bytes(host), int(port), *_]:
            return Address(host.decode() or asked.host, port)
        case [None, int(port), *_]:
            return Address(asked.host, port)
    raise ValueError("not a slot map")


def _owner(ranges: list[tuple[int, int, Address]], slot: int) -> Address | None:
    place = bisect_right(ranges, slot, key=lambda row: row[0]) - 1
    if place < 0 or ranges[place][1] < slot:
        return None
    return ranges[place][2]
