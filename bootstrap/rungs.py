"""What answers a read: the index, and behind it PostgreSQL and the machine's snapshots."""

from __future__ import annotations

from functools import partial
from typing import Final

from bootstrap.replicas import Database
from bootstrap.settings import Settings
from core.ladder import Ladder
from core.ports import Clock, EntryReads, Index
from core.shadow_reads import ShadowReads
from core.snapshot_index import SnapshotIndex
from core.snapshot_ports import Snapshots
from resilience.deadline import half_the_time
from storage.metrics import shadow_compared
from storage.rank_reads import PostgresIndex
from storage.replica_reads import Limits, ReplicaReads, Target

_SNAPSHOT_S: Final = 0.1
"""What a read of a snapshot takes at most on a very busy loop; it waits for nobody else."""


def make_ladder(
    settings: Settings, index: Index, database: Database, snapshots: Snapshots, clock: Clock
) -> tuple[Ladder, ShadowReads]:
    """The ladder of reads, and what holds its first rung against its second, which has to be
    closed.
    """
    primary = PostgresIndex(settings.postgres, database.primary, snapshots)
    shadow = ShadowReads(
        index,
        # A replica differs from the index whenever it is behind it.
        primary,
        clock,
        per_second=settings.reads.shadow_reads_per_s,
        on_compared=shadow_compared,
    )
    snapshot = SnapshotIndex(snapshots, clock, age_s_max=settings.reads.snapshot_s_max)
    rung = _with_replicas(settings, primary, database, snapshots, clock)
    spare = partial(half_the_time, kept_s_max=_SNAPSHOT_S)
    return Ladder(index, rung, snapshot, shadow, half_the_time, spare), shadow


def _with_replicas(
    settings: Settings,
    primary: PostgresIndex,
    database: Database,
    snapshots: Snapshots,
    clock: Clock,
) -> EntryReads:
    postgres = settings.postgres
    if not database.replicas:
        return primary
    targets = [
        Target(replica, PostgresIndex(postgres, replica, snapshots))
        for replica in database.replicas
    ]
    limits = Limits(postgres.replica_lag_ms_max / 1000, postgres.replica_alone_s_max)
    return ReplicaReads(primary, targets, snapshots, clock, limits)
