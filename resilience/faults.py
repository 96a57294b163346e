"""Faults that operators inject, to see what they do."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from resilience.errors import InjectedError


class FaultKind(IntEnum):
    """What happens to a call."""

    LATENCY = 1
    ERROR = 2
    TIMEOUT = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to some of the calls of a target; `latency_ms` is for LATENCY alone."""

    kind: FaultKind
    probability: float
    latency_ms: int = 0


class Faults(Protocol):
    """The faults that operators have set."""

    def fault(self, target: str) -> Fault | None:
        """The fault of what a breaker of this name guards. Called as often as Overrides.mode."""


class _NoFaults:
    """All is well."""

    def fault(self, _target: str) -> Fault | None:
        """None."""
        return None


NO_FAULTS: Final[Faults] = _NoFaults()


async def suffer(fault: Fault, target: str, rng: random.Random, *, timeout_s: float) -> None:
    """Does to a call what the fault says, if it is its turn. Raises InjectedError, TimeoutError."""
    if rng.random() >= fault.probability:
        return
    match fault.kind:
        case FaultKind.LATENCY:
            await asyncio.sleep(min(fault.latency_ms / 1000, timeout_s))
            if fault.latency_ms / 1000 >= timeout_s:
                raise TimeoutError
        case FaultKind.ERROR:
            raise InjectedError(target)
        case FaultKind.TIMEOUT:
            await asyncio.sleep(timeout_s)
            raise TimeoutError
