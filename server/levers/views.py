"""The breakers of a machine as operators see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resilience.machine_slots import Setting
from resilience.overrides import Mode


@dataclass(frozen=True, slots=True)
class WorkerView:
    """What one worker makes of a breaker. `state` is that of the contract, and of the breaker."""

    worker: int
    pid: int
    state: int
    failure_rate: float
    slow_rate: float
    open_until_ms: int | None


@dataclass(frozen=True, slots=True)
class BreakerView:
    """A breaker over all workers: the worst state, the highest rates, the latest end.

    `setting` is what decides while the mode is not AUTO: its own, or its parent's.
    """

    name: str
    state: int
    mode: Mode
    failure_rate: float
    slow_rate: float
    open_until_ms: int | None
    setting: Setting | None
    workers: Sequence[WorkerView]


@dataclass(frozen=True, slots=True)
class BreakersSet:
    """The breakers that were set, and which workers act on it and which have not said so."""

    breakers: Sequence[BreakerView]
    acknowledged: Sequence[int]
    laggards: Sequence[int]
