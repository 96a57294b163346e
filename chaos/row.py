"""What a row of the fault matrix is, and what is seen when it runs."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from chaos.deployment import Deployment
from chaos.history import AFTERWARDS, OK, SUBMIT, Attempt, History, MarkKind
from chaos.load import Load
from chaos.target import Target

_HALF_S: Final = 0.5
_BAD_SHARE: Final = 0.01
_CALM: Final = frozenset({"INDEX", "CACHE"})


@dataclass(frozen=True, slots=True)
class Scene:
    """What a row works with. `scale` is 1 for a full run and less for a short one."""

    target: Target
    load: Load
    history: History
    scale: float
    notes: list[str] = field(default_factory=list)
    """What a row itself found amiss."""

    @property
    def deployment(self) -> Deployment:
        """The deployment, for rows that break more than its levers can. Raises TypeError where it
        is somebody else's.
        """
        if not isinstance(self.target, Deployment):
            raise TypeError("this row needs a deployment of its own")
        return self.target

    def seconds(self, full: float, least: float) -> float:
        """How long something lasts in this run."""
        return max(least, full * self.scale)


Step = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Expected:
    """What has to hold beyond the invariants. Shares are of calls while it is broken; None: no
    matter. `degrades_s`: until callers meet no more failures; `heals_s`: from the mending until
    all is answered from the index again.
    """

    reads_min: float | None = 0.99
    writes_min: float | None = None
    tops_min: float | None = None
    degrades_s: float | None = None
    heals_s: float = 12.0
    converges_s: float = 10.0
    sources: frozenset[str] = frozenset()
    """At least one of them must have been seen."""
    live: bool = False
    """Whether all reads must come from the index."""
    also_told: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `break_` returns when it is broken for long enough; then `mend` is called. `missing`
    says why it cannot run, if so.
    """

    number: int
    name: str
    break_: Step
    mend: Step
    expected: Expected = field(default_factory=Expected)
    short: bool = False
    """Whether it is part of a short run."""
    index: str = ""
    """`down`: while it is broken no shard of the index answers."""
    ledger: str = ""
    """`down`: nor does PostgreSQL."""
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What callers saw of a row."""

    calls: int
    errors: Mapping[str, int]
    sources: Mapping[str, int]
    reads_answered: float
    tops_answered: float
    writes_answered: float
    degrade_s: float
    heal_s: float
    p99_ms: float


def seen_of(history: History) -> Seen:
    """The figures of a row, those of calls for the time in which it was broken."""
    fault_s = min(history.times_of(MarkKind.FAULT), default=0.0)
    heal_s = max(history.times_of(MarkKind.HEAL), default=float("inf"))
    # Before it is calm the stores get over having been read by whoever judged the last row.
    calm_s = min(history.times_of(MarkKind.CALM), default=float("-inf"))
    own = [
        attempt
        for attempt in history.attempts
        if attempt.number != AFTERWARDS and attempt.start_s >= calm_s
    ]
    inside = [attempt for attempt in own if fault_s <= attempt.start_s < heal_s]
    after = [attempt for attempt in own if attempt.start_s >= heal_s]
    return Seen(
        calls=len({attempt.call for attempt in own}),
        errors=Counter(attempt.result for attempt in own if attempt.result != OK),
        sources=Counter(a.meta.source for a in own if a.meta is not None),
        reads_answered=_answered(inside, lambda attempt: attempt.kind != SUBMIT),
        tops_answered=_answered(inside, lambda attempt: attempt.kind == "top"),
        writes_answered=_answered(inside, lambda attempt: attempt.kind == SUBMIT),
        degrade_s=_quiet_after(fault_s, own, [one for one in inside if one.result != OK]),
        heal_s=_quiet_after(heal_s, own, [one for one in after if _not_well(one)]),
        p99_ms=_p99_ms(inside),
    )


def well(history: History) -> bool:
    """Whether the last second of a run went as if nothing had ever been wrong."""
    if not history.attempts:
        return False
    last_s = history.attempts[-1].end_s - 1
    recent = itertools.takewhile(lambda one: one.end_s > last_s, reversed(history.attempts))
    return not any(map(_not_well, recent))


def missed(expected: Expected, seen: Seen, converged_s: float) -> Iterator[str]:
    """What was expected and not seen."""
    for name, least, share in (
        ("reads", expected.reads_min, seen.reads_answered),
        ("first pages", expected.tops_min, seen.tops_answered),
        ("writes", expected.writes_min, seen.writes_answered),
    ):
        if least is not None and share < least:
            yield f"{share:.2%} of {name} were answered, not {least:.2%}"
    if expected.degrades_s is not None and seen.degrade_s > expected.degrades_s:
        yield f"failures went on for {seen.degrade_s:.1f} s, not {expected.degrades_s:.1f} s"
    if seen.heal_s > expected.heals_s:
        yield f"it took {seen.heal_s:.1f} s to heal, not {expected.heals_s:.1f} s"
    if converged_s > expected.converges_s:
        yield f"the stores were equal after {converged_s:.1f} s, not {expected.converges_s:.1f} s"
    if expected.sources and not expected.sources & seen.sources.keys():
        yield f"nothing was answered from {' or '.join(sorted(expected.sources))}"
    if expected.live and seen.sources.keys() - _CALM:
        yield f"some reads came from {', '.join(sorted(seen.sources.keys() - _CALM))}"


def _answered(attempts: Sequence[Attempt], wanted: Callable[[Attempt], bool]) -> float:
    calls: dict[int, bool] = {}
    for attempt in attempts:
        if wanted(attempt):
            calls[attempt.call] = calls.get(attempt.call, False) or attempt.result == OK
    return sum(calls.values()) / len(calls) if calls else 1.0


def _quiet_after(since_s: float, attempts: Sequence[Attempt], bad: Sequence[Attempt]) -> float:
    """After how long no more than one attempt in a hundred was bad in any second, whenever the
    others that ended in it began.
    """
    ends = sorted(attempt.end_s for attempt in attempts)
    bads = sorted(attempt.end_s for attempt in bad)
    for end_s in reversed(bads):
        around = (end_s - _HALF_S, end_s + _HALF_S)
        if _between(bads, *around) > max(1, _BAD_SHARE * _between(ends, *around)):
            return end_s - since_s
    return 0.0


def _between(times: Sequence[float], low_s: float, high_s: float) -> int:
    return bisect_right(times, high_s) - bisect_left(times, low_s)


def _not_well(attempt: Attempt) -> bool:
    meta = attempt.meta
    return attempt.result != OK or (meta is not None and meta.source not in _CALM)


def _p99_ms(attempts: Sequence[Attempt]) -> float:
    times = sorted(attempt.end_s - attempt.start_s for attempt in attempts)
    return times[ceil(len(times) * 0.99) - 1] * 1000 if times else 0.0
