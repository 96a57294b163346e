"""Runs things in turn, so that a slow moment of the machine hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from bench.driving import Measure
from bench.samples import Median, Sample, median_of


class Kind(StrEnum):
    """What is measured."""

    PRODUCT = "product"
    FLOOR = "floor"


class Key(NamedTuple):
    """One line of the results. `note` tells lines of the same shape apart."""

    shape: str
    kind: Kind
    callers: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often, and how long each time."""

    runs: int
    seconds: float
    warm_up_s: float


async def interleaved(
    subjects: Mapping[Key, Measure], pace: Pace, tell: Callable[[str], object]
) -> Mapping[Key, Median]:
    """The medians of each over several rounds, after a round that is thrown away."""
    samples: dict[Key, list[Sample]] = {key: [] for key in subjects}
    for measure in subjects.values():
        await measure(pace.warm_up_s)
    for number in range(1, pace.runs + 1):
        started_s = time.monotonic()
        for key, measure in subjects.items():
            samples[key].append(await measure(pace.seconds))
        took_s = time.monotonic() - started_s
        tell(f"round {number} of {pace.runs}: {len(subjects)} loads in {took_s:.0f} s")
    return {key: median_of(runs) for key, runs in samples.items()}
