"""The modes that the machines of a fleet tell each other, wherever they keep them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from resilience.overrides import Mode


@dataclass(frozen=True, slots=True)
class FleetOverride:
    """A mode that some machine was told. Time goes by no machine's clock: `left_ms` is what is
    left of it now, 0 or less when it has ended. The highest (`set_time_ms`, `machine`) wins.
    """

    name: str
    mode: Mode
    left_ms: int
    set_time_ms: int
    machine: int
    reason: str = field(repr=False)
    actor: str = field(repr=False)


class FleetOverrides(Protocol):
    """The newest override of each breaker in a fleet."""

    async def exchange(self, ours: Sequence[FleetOverride]) -> Sequence[FleetOverride]:
        """Leaves those of ours that are newer than what is there, and returns what is there then.
        Cost: two round trips. Raises the store's own failure.
        """
