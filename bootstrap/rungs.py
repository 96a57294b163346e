"""What answers a read: the index, and behind it PostgreSQL and the machine's snapshots."""

from __future__ import annotations

from bootstrap.settings import Settings
from core.ladder import Ladder
from core.ports import Clock, Index
from core.shadow_reads import ShadowReads
from core.snapshot_index import SnapshotIndex
from core.snapshot_ports import Snapshots
from resilience.deadline import half_the_time
from storage.metrics import shadow_compared
from storage.pool import Pool
from storage.rank_reads import PostgresIndex


def make_ladder(
    settings: Settings, index: Index, read: Pool, snapshots: Snapshots, clock: Clock
) -> tuple[Ladder, ShadowReads]:
    """The ladder of reads, and what holds its first rung against its second, which has to be
    closed.
    """
    database = PostgresIndex(settings.postgres, read, snapshots, clock)
    shadow = ShadowReads(
        index,
        database,
        clock,
        per_second=settings.reads.shadow_reads_per_s,
        on_compared=shadow_compared,
    )
    snapshot = SnapshotIndex(snapshots, clock, age_s_max=settings.reads.snapshot_s_max)
    return Ladder(index, database, snapshot, shadow, half_the_time), shadow
