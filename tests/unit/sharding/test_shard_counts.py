"""What is remembered of how entries are spread."""

from __future__ import annotations

import random

import pytest

from sharding.shard_counts import ShardCounts


def test_equal_shares_are_assumed_where_nothing_is_known() -> None:
    """Before the first read of a season, and where it was empty."""
    counts = ShardCounts()
    counts.note(2, [0] * 16)

    assert list(counts.shares(1)) == list(counts.shares(2)) == [1 / 16] * 16
    assert (counts.total(1), counts.total(2)) == (None, 0)


def test_a_quota_is_never_more_than_is_wanted() -> None:
    """Nothing wanted is nothing asked; of a few all, of many about a sixteenth."""
    counts = ShardCounts()

    assert [counts.quota(1, wanted) for wanted in (0, 1, 2, 1000)] == [0, 1, 2, 92]


def test_a_quota_follows_the_fullest_shard() -> None:
    """A board that lives in one shard gets all from it."""
    counts = ShardCounts()
    counts.note(1, [0] * 15 + [50])
    counts.note(2, [25] * 2 + [0] * 14)

    assert counts.quota(1, 100) == 100
    assert counts.quota(2, 100) == 68


@pytest.mark.parametrize("wanted", [4, 6, 11, 100, 1000])
def test_a_quota_is_enough_nearly_always(wanted: int) -> None:
    """Of 2,000 pages of entries given to shards at random about one in 250 has a shard that may
    have more of it than it sent; with a row less it would be more.
    """
    rng = random.Random(2)
    quota = ShardCounts().quota(1, wanted)
    full = []
    for _ in range(2000):
        shards = rng.choices(range(16), k=wanted - 1)
        full.append(max(shards.count(shard) for shard in range(16)))

    assert sum(count >= quota for count in full) <= 16
    assert sum(count >= quota - 1 for count in full) > 8
