"""Which jobs there are and how often each runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from core.build_index import BuildIndex
from core.heal_index import HealIndex
from core.ports import Clock, IndexKeeping, LedgerHistory, Retention
from core.removal_ports import UnfinishedRemovals
from jobs.build_missing import BuildMissing
from jobs.finish_removals import FinishRemovals
from jobs.partitions import Partitions
from jobs.purge_boards import PurgeBoards
from jobs.rank_keys import FillRankKeys
from jobs.trim_outbox import TrimOutbox

HEAL_S: Final = 1.0
BUILD_S: Final = 1.0
PARTITIONS_S: Final = 3600.0
TRIM_S: Final = 600.0
PURGE_S: Final = 30.0
REMOVALS_S: Final = 1.0
MEASURE_S: Final = 5.0
RANK_KEYS_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do again and again; `interval_s` from the end of a run to the next."""

    name: str
    interval_s: float
    run: Callable[[], Awaitable[None]]


def all_jobs(
    *,
    history: LedgerHistory,
    retention: Retention,
    keeping: IndexKeeping,
    build: BuildIndex,
    removals: UnfinishedRemovals,
    measure_outbox: Callable[[], Awaitable[None]],
    clock: Clock,
) -> Sequence[Job]:
    """Every job, each to be run at once at the start."""
    return (
        Job("heal-index", HEAL_S, HealIndex(history, keeping, clock)),
        Job("build-missing", BUILD_S, BuildMissing(history, keeping, build)),
        Job("partitions", PARTITIONS_S, Partitions(retention)),
        Job("trim-outbox", TRIM_S, TrimOutbox(retention)),
        Job("purge-boards", PURGE_S, PurgeBoards(retention, keeping)),
        Job("finish-removals", REMOVALS_S, FinishRemovals(removals)),
        Job("measure-outbox", MEASURE_S, measure_outbox),
        Job("rank-keys", RANK_KEYS_S, FillRankKeys(retention)),
    )
