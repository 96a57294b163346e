"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from bench.rounds import Pace

FULL_ENTRIES: Final = 10_000_000
"""The further size of a full run, which takes gigabytes."""
_PACE: Final = Pace(runs=3, seconds=4.0, warm_up_s=1.5)


@dataclass(frozen=True, slots=True)
class Plan:
    """The board's entries, other sizes to see growth, callers, and how often and how long."""

    entries: int = 1_000_000
    other_entries: tuple[int, ...] = (10_000,)
    callers: tuple[int, ...] = (64, 256)
    pace: Pace = _PACE


SMOKE: Final = Plan(
    entries=50_000,
    other_entries=(5_000,),
    callers=(64,),
    pace=Pace(runs=1, seconds=0.8, warm_up_s=0.2),
)
"""A minute in all."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is asked for instead of a plan's own; 0 or nothing: as the plan says."""

    entries: int = 0
    callers: tuple[int, ...] = ()
    runs: int = 0
    seconds: float = 0.0


def plan_of(*, smoke: bool, full: bool, changes: Changes) -> Plan:
    """The plan of a run; `full` adds the biggest board."""
    plan = SMOKE if smoke else Plan()
    pace = replace(
        plan.pace,
        runs=changes.runs or plan.pace.runs,
        seconds=changes.seconds or plan.pace.seconds,
        warm_up_s=min(plan.pace.warm_up_s, changes.seconds or plan.pace.warm_up_s),
    )
    entries = changes.entries or plan.entries
    # Where the board is small, so are those that it is compared with.
    others = [min(count, max(1, entries // 10)) for count in plan.other_entries]
    return replace(
        plan,
        entries=entries,
        other_entries=(*others, FULL_ENTRIES) if full else tuple(others),
        callers=changes.callers or plan.callers,
        pace=pace,
    )
