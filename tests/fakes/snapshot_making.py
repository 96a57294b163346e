"""Snapshots of sorted lists, as the adapters make them of stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.snapshots import STEPS, TOP_ROWS_MAX, Sketch, Snapshot, Top, user_of
from core.types import ALL_SHARDS, shard_of

Row = tuple[bytes, bytes]


def snapshot_of(
    rows: Sequence[Row],
    *,
    season_number: int = 1,
    made_ms: int = 0,
    horizon: int = 0,
    ledger: bytes = bytes(8),
    steps: int = STEPS,
    top_rows_max: int = TOP_ROWS_MAX,
) -> Snapshot:
    """A snapshot of (key, tail) pairs in rank order."""
    shards: list[list[bytes]] = [[] for _ in ALL_SHARDS]
    for key, _ in rows:
        shards[shard_of(user_of(key))].append(key)
    return Snapshot(
        season_number=season_number,
        made_ms=made_ms,
        read_ms=made_ms + 1,
        caught_up_ms=made_ms,
        horizon=horizon,
        ledger=ledger,
        epoch=1,
        sketches=[sketch_of(keys, steps) for keys in shards],
        top=Top(rows[:top_rows_max], whole=len(rows) < top_rows_max),
    )


def sketch_of(keys: Sequence[bytes], steps: int) -> Sketch:
    """The sketch of one shard's sorted keys."""
    count = len(keys)
    ranks = sorted({place * (count - 1) // steps for place in range(steps + 1)}) if count else []
    return Sketch(count, tuple(ranks), b"".join(keys[rank] for rank in ranks))


@dataclass
class HeldSnapshots:
    """The Snapshots port, from a dictionary."""

    held: dict[int, Snapshot] = field(default_factory=dict, repr=False)

    def newest(self, season_number: int) -> Snapshot | None:
        """The one that is held."""
        return self.held.get(season_number)
