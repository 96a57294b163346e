"""What the workers hold while a soak goes on, and whether that grows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from chaos.conduct import Vitals

EVERY_S: Final = 5.0
_RESIDENT_SHARE_MAX: Final = 0.05
_RESIDENT_BYTES_MAX: Final = 6 * 2**20
"""Growth of a worker under load is refused above both, from the first to the last third of a run:
what is kept on purpose is nearly full by then."""
_DESCRIPTORS_SPARE: Final = 4.0
_TASKS_SPARE: Final = 4.0
_HOUR_S: Final = 3600.0
_PARTS: Final = 3
_SAMPLES_MIN: Final = 6


@dataclass(frozen=True, slots=True)
class Sample:
    """What a worker held on the average, so long after the beginning."""

    time_s: float
    vitals: Vitals


async def watch_vitals(look: Callable[[], Awaitable[Vitals]], samples: list[Sample]) -> None:
    """Appends one every few seconds, until it is cancelled."""
    began_s = time.monotonic()
    while True:
        samples.append(Sample(time.monotonic() - began_s, await look()))
        await asyncio.sleep(EVERY_S)


def resident_slope(samples: Sequence[Sample]) -> float:
    """Bytes an hour: the median of the slopes between all pairs, which single peaks do not move."""
    slopes = [
        (later.vitals.resident_bytes - one.vitals.resident_bytes) / (later.time_s - one.time_s)
        for at, one in enumerate(samples)
        for later in samples[at + 1 :]
        if later.time_s > one.time_s
    ]
    return median(slopes) * _HOUR_S if slopes else 0.0


def growing(samples: Sequence[Sample]) -> Iterator[str]:
    """What has grown under an even load."""
    part = len(samples) // _PARTS
    if len(samples) < _SAMPLES_MIN:
        return
    first, last = samples[:part], samples[-part:]
    before = median(sample.vitals.resident_bytes for sample in first)
    after = median(sample.vitals.resident_bytes for sample in last)
    if after - before > max(_RESIDENT_BYTES_MAX, before * _RESIDENT_SHARE_MAX):
        yield f"a worker grew from {before / 2**20:.1f} to {after / 2**20:.1f} MiB under load"


def held(before: Vitals, after: Vitals) -> Iterator[str]:
    """What is held at rest after a run beyond what was held at rest before it."""
    for name, was, is_now, spare in (
        ("descriptors", before.descriptors, after.descriptors, _DESCRIPTORS_SPARE),
        ("tasks", before.tasks, after.tasks, _TASKS_SPARE),
    ):
        if is_now > was + spare:
            yield f"{was:.1f} {name} of a worker at rest became {is_now:.1f}"
