"""What is required of the figures, and whether they meet it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import cpu_count
from typing import Final

from bench.rounds import Key, Kind
from bench.samples import OTHERS, Median
from bench.shapes import (
    AROUND,
    BATCH_GET,
    BATCH_SUBMIT,
    DEEP,
    FIRST,
    GET,
    STREAM,
    SUBMIT,
    TOP_10,
    TOP_100,
)

HALF: Final = "half load"
"""The note of a line that was measured at half of what was the most."""
_CALLERS: Final = 64
"""What is required is required at so many callers, where a shape has none of its own."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is measured once. None: not from here."""

    ready_s: float | None = None
    """From the start of a server to its first answer that it serves."""
    rebuilt_per_s: float | None = None
    """Entries a second, of the biggest board."""
    redis_bytes_per_entry: float | None = None
    """Of the primaries; a replica takes the same again."""
    worker_bytes: float | None = None
    """Resident, after the load."""


@dataclass(frozen=True, slots=True)
class Results:
    """All that a run came to. `units` are what a call of a shape is worth, `entries` the sizes of
    its boards, ascending; the shapes were measured on that of `main` entries.
    """

    about: Mapping[str, str]
    medians: Mapping[Key, Median]
    units: Mapping[str, tuple[int, str]]
    entries: Sequence[int]
    main: int
    facts: Facts = field(default_factory=Facts)
    valkey: bool = False

    def rate(self, key: Key) -> float | None:
        """Units a second: scores, ranks or calls."""
        median = self.medians.get(key)
        return None if median is None else median.rate * self.units.get(key.shape, (1, ""))[0]

    def ratio(self, key: Key) -> float | None:
        """What the product does of what its floor does, both in this run. A line with a note shows
        something else.
        """
        floor = None if key.note else self.rate(floor_of(key))
        seen = self.rate(key)
        return seen / floor if seen is not None and floor else None

    @property
    def disturbed(self) -> float:
        """The share of the processors, of 1, that went to others in the line where it was most."""
        return max(
            (
                median.cpu_us.get(OTHERS, 0.0) * median.rate / 1_000_000 / (cpu_count() or 1)
                for median in self.medians.values()
            ),
            default=0.0,
        )

    def find(self, shape: str, note: str = "") -> Key:
        """The line of the product that a requirement is about."""
        keys = [key for key in self.medians if key[:2] == (shape, Kind.PRODUCT)]
        noted = [key for key in keys if key.note == note]
        best = [key for key in noted if key.callers == _CALLERS]
        return next(iter(best or noted), Key(shape, Kind.PRODUCT, _CALLERS, note))


@dataclass(frozen=True, slots=True)
class Figure:
    """One requirement: `seen` has to be at least the bound or, `at_most`, no more than it.
    Absolute ones hold on the Envoy transport of a quiet machine only; ratios bind everywhere.
    """

    what: str
    bound: float
    seen: float | None
    unit: str = ""
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """None: it was not measured."""
        if self.seen is None:
            return None
        return self.seen <= self.bound if self.at_most else self.seen >= self.bound


_RATIOS: Final = {
    SUBMIT: 0.35,
    BATCH_SUBMIT: 0.6,
    STREAM: 0.6,
    GET: 0.3,
    BATCH_GET: 0.6,
    TOP_10: 0.6,
    TOP_100: 0.3,
    AROUND: 0.2,
}
_RATES: Final = {
    SUBMIT: (4_500, "calls/s"),
    BATCH_SUBMIT: (20_000, "scores/s"),
    STREAM: (20_000, "scores/s"),
    GET: (4_000, "calls/s"),
    BATCH_GET: (9_000, "ranks/s"),
    TOP_10: (8_000, "calls/s"),
    TOP_100: (3_500, "calls/s"),
    AROUND: (3_000, "calls/s"),
}
_GROWTH: Final = {GET: 1.5, SUBMIT: 2.0}
_DEEP_MAX: Final = 4.0
_P99_MAX: Final = 5.0
_REBUILT_PER_S: Final = 60_000
_REDIS_BYTES: Final = 240
_VALKEY_BYTES: Final = 180


def floor_of(key: Key) -> Key:
    """The line that a line of the product is held against."""
    # A batch and a stream of the same size have the same floor.
    shape = BATCH_SUBMIT if key.shape == STREAM else key.shape
    callers = 1 if shape in (BATCH_SUBMIT, BATCH_GET) else key.callers
    return Key(shape, Kind.FLOOR, callers)


def entries_note(count: int) -> str:
    """The note of a line that was measured to see how cost grows."""
    return f"{count:,} entries"


def figures_of(results: Results) -> Sequence[Figure]:
    """Every requirement, in the order in which they are written down."""
    return [*_of_shapes(results), *_of_growth(results), *_of_tails(results), *_of_facts(results)]


def _of_shapes(results: Results) -> Iterator[Figure]:
    for shape, ratio in _RATIOS.items():
        key = results.find(shape)
        rate, unit = _RATES[shape]
        yield Figure(f"{shape} / floor", ratio, results.ratio(key))
        yield Figure(shape, rate, results.rate(key), unit)


def _of_growth(results: Results) -> Iterator[Figure]:
    smallest, biggest = results.entries[0], results.entries[-1]
    sizes = f"{smallest:,} -> {biggest:,} entries"
    for shape, bound in _GROWTH.items():
        grown = _p50_ratio(
            results,
            results.find(shape, entries_note(biggest)),
            results.find(shape, entries_note(smallest)),
        )
        yield Figure(f"p50 of {shape}, {sizes}", bound, grown, "times", at_most=True)
    deep = _p50_ratio(results, results.find(DEEP), results.find(FIRST))
    what = f"p50 at rank {max(1, results.main // 2):,} / at rank 1, no cache"
    yield Figure(what, _DEEP_MAX, deep, "times", at_most=True)


def _of_tails(results: Results) -> Iterator[Figure]:
    for shape in (SUBMIT, GET):
        median = results.medians.get(results.find(shape, HALF))
        tail = median.p99_ms / median.p50_ms if median and median.p50_ms else None
        yield Figure(f"{shape} p99 / p50, {HALF}", _P99_MAX, tail, "times", at_most=True)


def _of_facts(results: Results) -> Iterator[Figure]:
    facts = results.facts
    yield Figure("rebuild", _REBUILT_PER_S, facts.rebuilt_per_s, "entries/s")
    bound = _VALKEY_BYTES if results.valkey else _REDIS_BYTES
    memory = facts.redis_bytes_per_entry
    yield Figure("memory of the index per entry", bound, memory, "bytes", at_most=True)


def _p50_ratio(results: Results, key: Key, other: Key) -> float | None:
    one, two = results.medians.get(key), results.medians.get(other)
    return one.p50_ms / two.p50_ms if one and two and two.p50_ms else None
