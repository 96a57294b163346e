"""Where the shards live."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from sharding.keys import SHARDS, SLOTS, copy_keys, done_key, meta_key, season_keys


def test_there_is_one_shard_in_each_1024_slots() -> None:
    """The tags are in slot order and evenly spread."""
    assert [slot // 1024 for slot in SLOTS] == list(range(16))


@pytest.mark.parametrize(
    ("nodes", "shares"),
    [(2, [8, 8]), (3, [5, 5, 6]), (4, [4] * 4), (8, [2] * 8), (16, [1] * 16)],
)
def test_every_even_split_of_the_slots_is_balanced(nodes: int, shares: list[int]) -> None:
    """Each node of an even split has its share of the shards, give or take one."""
    found = [0] * nodes
    for slot in SLOTS:
        found[slot * nodes // 16384] += 1

    assert found == shares


@pytest.mark.parametrize("shard", SHARDS)
def test_all_keys_of_a_shard_share_its_slot(shard: int) -> None:
    """One function may use all of them; no two are the same."""
    keys = [meta_key(shard), done_key(shard), *season_keys(shard, 9), *copy_keys(shard, 9)]

    assert {key_slot(key) for key in keys} == {SLOTS[shard]}
    assert len(set(keys)) == 6
