"""Puts one kind of call on one address, a run at a time."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final, TypeAlias

from google.protobuf.message import Message

from bench.ghz import CALLS_MAX, Ghz, Load
from bench.processes import busy_s, cpu_times
from bench.requests import Requests, write_requests
from bench.samples import GENERATOR, OTHERS, Sample
from bench.shapes import Shape

Measure: TypeAlias = Callable[[float], Awaitable[Sample]]
"""One run of so many seconds."""
Groups: TypeAlias = Callable[[], Mapping[str, Sequence[int]]]
"""The processes that share the machine, by what they are."""

_READS: Final = 5_000
"""Different requests of a kind that may be sent again and again."""
_BIG_READS: Final = 500
_MARGIN: Final = 3.0
"""How many more requests than the last run took the next one gets."""
_CALLS_MIN: Final = 200
_file_numbers = count()


async def watched(groups: Groups, run: Callable[[], Awaitable[Sample]]) -> Sample:
    """A run, with the processor time that each group took meanwhile, and all others together:
    where those took much, it was not the only load of the machine.
    """
    members = groups()
    before, busy_before_s = cpu_times(members), busy_s()
    sample = await run()
    busy_meanwhile_s = busy_s() - busy_before_s
    after = cpu_times(members)
    sample = sample.with_cpu({name: max(0.0, after[name] - before[name]) for name in members})
    others_s = max(0.0, busy_meanwhile_s - sum(sample.cpu_s.values()))
    return sample.with_cpu({OTHERS: others_s})


async def generated_here(run: Awaitable[Sample]) -> Sample:
    """A run whose load is made by this process, with the time that this took."""
    before_s = time.process_time()
    sample = await run
    return sample.with_cpu({GENERATOR: time.process_time() - before_s})


@dataclass(slots=True)
class Driver:
    """One kind of call under a load, by ghz. `rate` as in `Load`. `fresh`: requests that may be
    sent once are sent once; an echo does not mind.
    """

    ghz: Ghz
    folder: Path
    shape: Shape
    requests: Requests
    address: str
    callers: int
    groups: Groups
    rate: int = 0
    fresh: bool = True
    _file: Path | None = None
    _rate_seen: float = field(default=0.0)

    async def __call__(self, seconds: float) -> Sample:
        """One run. Raises BenchFailed."""
        once = self.shape.once and self.fresh
        calls = self._calls_of(seconds) if once else self._reads()
        if once or self._file is None:
            await asyncio.to_thread(self._write, calls)
        file = self._file
        if file is None:
            raise RuntimeError("no requests were written")
        load = Load(
            address=self.address,
            method=self.shape.full_method,
            requests=file,
            callers=self.shape.callers or self.callers,
            seconds=seconds,
            calls_max=calls if once else CALLS_MAX,
            rate=self.rate,
        )
        sample = await watched(self.groups, lambda: self.ghz.run(load))
        self._rate_seen = sample.rate
        return sample

    def _calls_of(self, seconds: float) -> int:
        rate = _MARGIN * self._rate_seen or float(self.shape.rate_guess)
        return max(_CALLS_MIN, math.ceil(rate * seconds))

    def _reads(self) -> int:
        return _READS if self.shape.units == 1 else _BIG_READS

    def _write(self, calls: int) -> None:
        if self._file is None:
            self._file = self.folder / f"requests-{next(_file_numbers)}.bin"
        write_requests(self._file, self._made(calls))

    def _made(self, calls: int) -> Iterator[Message]:
        for _ in range(calls):
            yield self.shape.make(self.requests)
