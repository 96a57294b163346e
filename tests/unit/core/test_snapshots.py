"""What a snapshot says of counts and places always holds the truth (PROTOCOL P13)."""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.snapshots import (
    RoughCounts,
    Snapshot,
    SnapshotBroken,
    decode_snapshot,
    encode_snapshot,
    widened,
)
from core.types import ALL_SHARDS
from tests.fakes.snapshot_making import snapshot_of

TAIL = bytes(6)
_seasons = {
    "count": st.integers(0, 20) | st.integers(0, 600),
    "steps": st.sampled_from([1, 2, 7, 256]),
    "top_rows_max": st.sampled_from([1, 5, 50, 1_000]),
    "seed": st.integers(0, 2**32),
}


def key_of(dice: random.Random) -> bytes:
    """A key that shares its result with many others, in a shard that has more than its share."""
    user = dice.randrange(2**63)
    user = user - user % 16 if dice.random() < 0.3 else user
    result = dice.randrange(30).to_bytes(16, "big")
    return result + dice.randrange(2**63).to_bytes(8, "big") + user.to_bytes(8, "big")


def cutoffs_of(keys: list[bytes], dice: random.Random) -> list[bytes]:
    """Keys that are there, places behind them, beginnings of keys, and others."""
    some = dice.sample(keys, min(10, len(keys)))
    return [
        b"",
        b"\xff",
        *some,
        *(key + b"\0" for key in some),
        *(key[: dice.choice([1, 16, 24])] for key in some),
        *(key_of(dice) for _ in range(5)),
    ]


def count(keys: list[bytes], cutoff: bytes, shard: int) -> int:
    """The truth."""
    return sum(1 for key in keys if key < cutoff and key[-1] % 16 == shard)


def bounds_hold(snapshot: Snapshot, keys: list[bytes], cutoffs: list[bytes], writes: int) -> bool:
    """Whether every count lies within its bounds, shard by shard and in the sum."""
    for cutoff in cutoffs:
        bounds = [widened(snapshot.bounds(cutoff, shard), writes) for shard in ALL_SHARDS]
        right = [count(keys, cutoff, shard) for shard in ALL_SHARDS]
        if not all(low <= n <= high for (low, high), n in zip(bounds, right, strict=True)):
            return False
        rough = RoughCounts.of([[one] for one in bounds])
        told = sum(shard[0] for shard in rough.shards)
        if not told - rough.fewer <= sum(right) <= told + rough.more:
            return False
    return True


@settings(deadline=None)
@given(**_seasons)
def test_bounds_hold_the_truth(count: int, steps: int, top_rows_max: int, seed: int) -> None:
    """Of every cutoff, in every shard, and exactly where the first entries reach so far."""
    dice = random.Random(seed)
    keys = sorted(key_of(dice) for _ in range(count))
    rows = [(key, TAIL) for key in keys]
    snapshot = snapshot_of(rows, steps=steps, top_rows_max=top_rows_max)

    assert snapshot.entry_count() == len(keys)
    assert bounds_hold(snapshot, keys, cutoffs_of(keys, dice), 0)
    for place, key in enumerate(keys[:top_rows_max]):
        assert sum(snapshot.bounds(key, shard)[0] for shard in ALL_SHARDS) == place
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot


@given(writes=st.integers(1, 40), **_seasons)
def test_widened_bounds_hold_the_truth_after_writes(
    writes: int, count: int, steps: int, top_rows_max: int, seed: int
) -> None:
    """Each write, of a new entry or of one that moves or goes, takes one from either side."""
    dice = random.Random(seed)
    keys = sorted(key_of(dice) for _ in range(count))
    rows = [(key, TAIL) for key in keys]
    snapshot = snapshot_of(rows, steps=steps, top_rows_max=top_rows_max)
    for _ in range(writes):
        if keys and dice.random() < 0.7:
            moved = keys.pop(dice.randrange(len(keys)))
            if dice.random() < 0.8:
                keys.append(key_of(dice)[:24] + moved[24:])
        else:
            keys.append(key_of(dice))

    assert bounds_hold(snapshot, keys, cutoffs_of(keys, dice), writes)


@given(offset=st.integers(0, 700), **_seasons)
def test_a_key_near_a_place_is_before_it(
    offset: int, count: int, steps: int, top_rows_max: int, seed: int
) -> None:
    """It lies within its bounds, and with fine steps next to the place."""
    dice = random.Random(seed)
    keys = sorted(key_of(dice) for _ in range(count))
    snapshot = snapshot_of([(key, TAIL) for key in keys], steps=steps, top_rows_max=top_rows_max)

    key, about = snapshot.key_near(offset)

    assert about <= offset
    assert bool(key) == bool(keys)
    if keys:
        bounds = [snapshot.bounds(key, shard) for shard in ALL_SHARDS]
        assert about == sum(sum(one) // 2 for one in bounds) or key == keys[0]
        assert sum(one[0] for one in bounds) <= bisect_left(keys, key) <= sum(b for _, b in bounds)
        if steps == 256 and max(sketch.count for sketch in snapshot.sketches) <= steps:
            assert bisect_left(keys, key) == min(offset, len(keys) - 1)


@pytest.mark.parametrize("cut", [0, 3, 40, -1])
def test_half_a_snapshot_is_refused(cut: int) -> None:
    """Whatever the disk has made of it."""
    rows = [(key_of(random.Random(seed)), TAIL) for seed in range(30)]
    data = encode_snapshot(snapshot_of(sorted(rows)))

    with pytest.raises(SnapshotBroken):
        decode_snapshot(data[:cut])
    with pytest.raises(SnapshotBroken):
        decode_snapshot(data[:50] + bytes([data[50] ^ 1]) + data[51:])


def test_a_snapshot_knows_when_it_was_made() -> None:
    """All that is said of it comes back."""
    snapshot = replace(
        snapshot_of([]),
        season_number=2**31,
        made_ms=5,
        caught_up_ms=4,
        horizon=2**63,
        ledger=b"12345678",
        epoch=9,
    )

    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot
