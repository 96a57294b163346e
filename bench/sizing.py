"""How much of everything a load takes, reckoned from measured figures: docs/sizing.md.

    python -m bench.sizing

prints the table of that page. Whoever measures anew changes the figures here, and the page by what
is printed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

BUSY_MAX: Final = 0.6
"""How much of a core is planned with: the rest is for peaks, and for the machines that remain when
one is lost."""
REDIS_BUSY_MAX: Final = 0.5
"""The same for a Redis node, which has one thread: it also rebuilds and replicates."""
NODE_GIB_MAX: Final = 24.0
"""What one Redis node is let grow to: a bigger one takes long to copy to a new replica."""
PRIMARIES: Final = (3, 4, 8, 16)
"""Over how many nodes sixteen shards are spread evenly, or nearly."""
CONNECTIONS_PER_WORKER: Final = 12
"""The three pools of a worker, as they are set by default."""
POOLER_FROM_WORKERS: Final = 6
"""From so many workers on PostgreSQL's 100 connections are better shared through PgBouncer."""
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class CallCost:
    """Microseconds of processor time that one call takes of each process."""

    server_us: int
    postgres_us: int = 0
    redis_us: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured (bytes an entry, calls by kind), for one transport."""

    submit: CallCost
    get_entry: CallCost
    first_page: CallCost
    redis_entry_bytes: int = 228
    """Of one copy; a shard that is rebuilt has two of them for a while."""
    rebuilt_entries_per_s: int = 92_000
    """By one machine."""
    postgres_entry_bytes: int = 430
    """With its rank index, after each entry has been written twice."""
    postgres_event_bytes: int = 224
    """Kept for eight days, so that late retries find their outcome."""
    wal_bytes: int = 814
    """A submission's, between checkpoints; pages that a checkpoint has passed cost up to 12 KiB."""


FIGURES: Final[Mapping[str, Figures]] = {
    "grpcio": Figures(
        submit=CallCost(384, postgres_us=138, redis_us=102),
        get_entry=CallCost(395, redis_us=188),
        first_page=CallCost(262),
    ),
    "envoy": Figures(
        submit=CallCost(240, postgres_us=109, redis_us=91),
        get_entry=CallCost(215, redis_us=154),
        first_page=CallCost(109),
    ),
}
"""By `standings bench` on 1,000,000 entries, one worker, 64 callers; bytes from used_memory and
from PostgreSQL's own sizes of 100,000 entries."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a deployment, at its busiest. First pages are mostly from memory."""

    entries: int
    submissions_per_s: float
    entry_reads_per_s: float
    first_pages_per_s: float


@dataclass(frozen=True, slots=True)
class Size:
    """What it takes; GiB are of 2^30 bytes."""

    server_cores: int
    redis_primaries: int
    redis_node_gib: float
    postgres_cores: int
    postgres_disk_gib: float
    wal_mib_per_s: float
    connections: int
    pooler: bool
    rebuild_s: float


def size_for(load: Load, figures: Figures, *, event_days: int = 8) -> Size:
    """What a load takes, with a replica of each Redis node to be added: as many again."""
    calls = (
        (load.submissions_per_s, figures.submit),
        (load.entry_reads_per_s, figures.get_entry),
        (load.first_pages_per_s, figures.first_page),
    )
    server_busy = sum(rate * cost.server_us for rate, cost in calls) / 1e6
    postgres_busy = sum(rate * cost.postgres_us for rate, cost in calls) / 1e6
    redis_busy = sum(rate * cost.redis_us for rate, cost in calls) / 1e6
    workers = _cores(server_busy)
    # Twice: all shards of a node may be built anew at once.
    index_gib = 2 * load.entries * figures.redis_entry_bytes / _GIB
    primaries = _primaries(redis_busy, index_gib)
    events = load.submissions_per_s * 86_400 * event_days
    disk = load.entries * figures.postgres_entry_bytes + events * figures.postgres_event_bytes
    return Size(
        server_cores=workers,
        redis_primaries=primaries,
        redis_node_gib=index_gib * _largest_share(primaries),
        postgres_cores=_cores(postgres_busy),
        postgres_disk_gib=disk / _GIB,
        wal_mib_per_s=load.submissions_per_s * figures.wal_bytes / 2**20,
        connections=workers * CONNECTIONS_PER_WORKER,
        pooler=workers >= POOLER_FROM_WORKERS,
        rebuild_s=load.entries / figures.rebuilt_entries_per_s,
    )


def _cores(busy: float) -> int:
    return max(2, math.ceil(busy / BUSY_MAX))


def _largest_share(primaries: int) -> float:
    """Of the index, on the node that has most shards of sixteen."""
    return math.ceil(16 / primaries) / 16


def _primaries(busy: float, index_gib: float) -> int:
    """The fewest nodes of which none is too busy or too big; the most there are where all are."""
    for count in PRIMARIES:
        share = _largest_share(count)
        if busy * share <= REDIS_BUSY_MAX and index_gib * share <= NODE_GIB_MAX:
            return count
    return PRIMARIES[-1]


EXAMPLES: Final = (
    Load(100_000, 100, 200, 200),
    Load(1_000_000, 500, 1_000, 1_000),
    Load(10_000_000, 2_000, 4_000, 4_000),
    Load(50_000_000, 5_000, 10_000, 20_000),
    Load(200_000_000, 10_000, 20_000, 50_000),
)

_COLUMNS: Final = (
    *("entries", "scores/s", "ranks/s", "first pages/s", "transport", "server cores"),
    *("Redis primaries", "GiB each", "PostgreSQL cores", "its disk, GiB", "WAL, MiB/s"),
    *("connections", "index anew"),
)


def table() -> str:
    """The rows of docs/sizing.md: each example on each transport."""
    rows = [
        _row(load, transport, size_for(load, figures))
        for load in EXAMPLES
        for transport, figures in FIGURES.items()
    ]
    return "\n".join([f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|", *rows])


def _row(load: Load, transport: str, size: Size) -> str:
    cells = (
        *(f"{load.entries:,}", f"{load.submissions_per_s:,}", f"{load.entry_reads_per_s:,}"),
        *(f"{load.first_pages_per_s:,}", transport, size.server_cores, size.redis_primaries),
        *(f"{size.redis_node_gib:.1f}", size.postgres_cores, f"{size.postgres_disk_gib:,.0f}"),
        f"{size.wal_mib_per_s:.1f}",
        f"{size.connections}{', PgBouncer' if size.pooler else ''}",
        f"{size.rebuild_s:,.0f} s",
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    print(table())  # noqa: T201  # what it is for
