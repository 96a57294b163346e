"""What one run of one load came to, and the median of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median, quantiles
from typing import Final

GENERATOR: Final = "generator"
"""Whose processor time it is that makes the load."""
OTHERS: Final = "others"
"""All that has nothing to do with a run."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Calls that succeeded in so many seconds, how long they took, and what the others ended with.
    `cpu_s` is the processor time of each group of processes meanwhile.
    """

    calls: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: Mapping[str, int] = field(default_factory=dict)
    cpu_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Calls per second that succeeded."""
        return self.calls / self.seconds if self.seconds else 0.0

    def with_cpu(self, cpu_s: Mapping[str, float]) -> Sample:
        """The same with further groups of processes."""
        return replace(self, cpu_s={**self.cpu_s, **cpu_s})


@dataclass(frozen=True, slots=True)
class Median:
    """Several samples of the same, each figure the median of theirs. `cpu_us` is per call."""

    rate: float
    p50_ms: float
    p99_ms: float
    errors: Mapping[str, int]
    cpu_us: Mapping[str, float]


def median_of(samples: Sequence[Sample]) -> Median:
    """Raises ValueError where there is none."""
    if not samples:
        raise ValueError("no samples")
    errors: Counter[str] = Counter()
    for sample in samples:
        errors.update(sample.errors)
    groups = {group for sample in samples for group in sample.cpu_s}
    return Median(
        rate=median(sample.rate for sample in samples),
        p50_ms=median(sample.p50_ms for sample in samples),
        p99_ms=median(sample.p99_ms for sample in samples),
        errors=dict(errors),
        cpu_us={
            group: median(
                1_000_000 * sample.cpu_s.get(group, 0.0) / max(1, sample.calls)
                for sample in samples
            )
            for group in sorted(groups)
        },
    )


def sample_of_times(times_ms: Sequence[float], seconds: float) -> Sample:
    """Of calls that took so long each, in so many seconds in all."""
    if not times_ms:
        return Sample(0, seconds, p50_ms=0.0, p99_ms=0.0)
    cuts = quantiles(times_ms, n=100) if len(times_ms) > 1 else [times_ms[0]] * 99
    return Sample(len(times_ms), seconds, p50_ms=cuts[49], p99_ms=cuts[98])
