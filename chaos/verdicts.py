"""What the checker can find, in the words of the report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Invariant(Enum):
    """What has to hold whatever breaks."""

    NOTHING_LOST = "I1"
    NOTHING_DOUBLED = "I2"
    CONVERGED = "I3"
    HONEST = "I4"
    """An answer shows all that its source and its age promise, and ranks that were possible."""
    ERRORS_TOLD = "I5"
    IN_TIME = "I6"
    NO_LEAK = "I7"
    OVERRIDES_HELD = "I8"
    FEW_PROBES = "I9"
    FEW_RETRIES = "I10"
    MONOTONE = "I11"
    EXPECTED = "row"
    """What a row of the matrix expects beyond all that."""


class Harm(Enum):
    """What a violation costs whom it meets."""

    LOST = "lost"
    DOUBLED = "doubled"
    WRONG = "wrong"
    CONDUCT = "conduct"
    """Nothing false was told or stored, but not as promised."""


@dataclass(frozen=True, slots=True)
class Breach:
    """One violation."""

    invariant: Invariant
    harm: Harm
    text: str
