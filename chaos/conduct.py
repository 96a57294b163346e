"""I5 to I10: honest errors, in time, no leak, overrides obeyed, few probes and retries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from chaos.history import AFTERWARDS, OK, SUBMIT, Attempt, History, Mark, MarkKind
from chaos.verdicts import Breach, Harm, Invariant

RETRYABLE: Final = frozenset(
    {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED"}
)
"""All that trouble may be told as."""
LATE_S: Final = 0.1
ATTEMPTS_PER_CALL_MAX: Final = 1.1
_CALLS_MIN: Final = 100
"""Of fewer calls a share says nothing."""
_PATIENT_S: Final = 0.05
"""Who waits less is not owed an answer."""
PROBES_MAX: Final = 3
SEEN_S: Final = 0.1
"""How long an override may take to be obeyed everywhere, and to end."""
_CALM: Final = frozenset({"INDEX", "CACHE"})
_RSS_GROWTH: Final = 1.1
_RSS_SPARE_BYTES: Final = 16 * 1024 * 1024
_FD_SPARE: Final = 8
_TASKS_SPARE: Final = 10


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the processes of a server hold, per worker on the average."""

    descriptors: float
    resident_bytes: float
    tasks: float


def check_errors(history: History, also: Collection[str] = ()) -> Iterator[Breach]:
    """I5: nothing but trouble is told as trouble, and none at all while nothing is wrong."""
    allowed = {OK, *RETRYABLE, *also}
    trouble = (MarkKind.FAULT, MarkKind.OVERRIDE)
    # An override acts before the call that sets it is answered: trouble begins where it was asked.
    began_s = min(
        (float(m.details.get("asked_s", m.time_s)) for m in history.marks if m.kind in trouble),
        default=float("inf"),
    )
    calm_s = min(history.times_of(MarkKind.CALM), default=float("-inf"))
    for attempt in history.attempts:
        for code in {attempt.code, *(told.code for told in attempt.told)} - allowed:
            harm = Harm.WRONG if code == "NOT_FOUND" else Harm.CONDUCT
            yield Breach(Invariant.ERRORS_TOLD, harm, f"{attempt.kind} was told {code}")
        if (
            calm_s <= attempt.start_s
            and attempt.end_s < began_s
            and attempt.deadline_s >= _PATIENT_S
        ):
            if attempt.result == "UNAVAILABLE":
                yield _conduct(Invariant.ERRORS_TOLD, f"{attempt.kind} failed, nothing was wrong")
            elif attempt.meta is not None and attempt.meta.source not in _CALM:
                text = f"{attempt.kind} was answered from {attempt.meta.source}, nothing was wrong"
                yield _conduct(Invariant.ERRORS_TOLD, text)


def check_times(history: History) -> Iterator[Breach]:
    """I6: whatever happens, a caller knows by its deadline."""
    for attempt in history.attempts:
        due_s = attempt.start_s + attempt.deadline_s
        late_s = attempt.end_s - due_s - LATE_S
        if late_s > 0 and late_s > history.deaf_s(due_s, attempt.end_s):
            yield _conduct(Invariant.IN_TIME, f"{attempt.kind} came {late_s:.3f} s too late")


def check_leaks(before: Vitals, after: Vitals) -> Iterator[Breach]:
    """I7: what was taken in the trouble was given back."""
    if after.descriptors > before.descriptors + _FD_SPARE:
        text = f"{before.descriptors:.0f} descriptors became {after.descriptors:.0f}"
        yield _conduct(Invariant.NO_LEAK, text)
    if after.tasks > before.tasks + _TASKS_SPARE:
        yield _conduct(Invariant.NO_LEAK, f"{before.tasks:.0f} tasks became {after.tasks:.0f}")
    if after.resident_bytes > before.resident_bytes * _RSS_GROWTH + _RSS_SPARE_BYTES:
        sizes = [round(size / 2**20) for size in (before.resident_bytes, after.resident_bytes)]
        yield _conduct(Invariant.NO_LEAK, f"{sizes[0]} MiB became {sizes[1]} MiB")


def check_overrides(history: History) -> Iterator[Breach]:
    """I8: an override is seen by every worker at once, is obeyed, and ends when it was said to."""
    marks = [mark for mark in history.marks if mark.kind is MarkKind.OVERRIDE]
    for mark in marks:
        if mark.details.get("laggards"):
            yield _conduct(Invariant.OVERRIDES_HELD, f"{mark.details['laggards']} did not follow")
        over_s = _over_s(history, mark)
        if mark.details["mode"] == "FORCED_OPEN":
            yield from _disobeyed(history, mark, over_s)
    for mark in history.marks:
        if mark.kind is MarkKind.OVERRIDE_ENDED:
            off_s = abs(mark.time_s - float(mark.details["due_s"]))
            if off_s > SEEN_S + float(mark.details.get("slack_s", 0)):
                text = f"{mark.details['name']} ended {off_s:.3f} s off"
                yield _conduct(Invariant.OVERRIDES_HELD, text)


def check_probes(history: History) -> Iterator[Breach]:
    """I9: who is coming back is not stormed."""
    for mark in history.marks:
        if mark.kind is MarkKind.PROBES and int(mark.details["count"]) > PROBES_MAX:
            yield _conduct(
                Invariant.FEW_PROBES, f"{mark.details['count']} were on their way at once"
            )


def check_retries(history: History) -> Iterator[Breach]:
    """I10: trouble is not multiplied."""
    attempts = [attempt.call for attempt in history.attempts if attempt.number != AFTERWARDS]
    calls = len(set(attempts))
    if calls >= _CALLS_MIN and len(attempts) > calls * ATTEMPTS_PER_CALL_MAX:
        text = f"{len(attempts)} attempts for {calls} calls"
        yield _conduct(Invariant.FEW_RETRIES, text)


def _over_s(history: History, mark: Mark) -> float:
    """When an override ended, or the next one of its breaker may have begun."""
    names = (mark.details["name"], "*")
    others = [
        other
        for other in history.marks
        if other.kind in (MarkKind.OVERRIDE, MarkKind.OVERRIDE_ENDED)
        and other.time_s > mark.time_s
        and other.details["name"] in names
    ]
    begun = [float(other.details.get("asked_s", other.time_s)) for other in others]
    # Its ttl counts from some moment of the call that set it.
    asked_s = float(mark.details.get("asked_s", mark.time_s))
    return min([*begun, asked_s + float(mark.details["ttl_s"])])


def _disobeyed(history: History, mark: Mark, over_s: float) -> Iterator[Breach]:
    obeys = _OBEYS.get(str(mark.details["name"]))
    if obeys is None:
        return
    for attempt in history.attempts:
        seen_s = mark.time_s + SEEN_S
        inside = seen_s < attempt.start_s and attempt.end_s < over_s
        # A read that was on its way already may be shared by those who come later.
        shared = attempt.meta is not None and 0 < history.since_wall(attempt.meta.as_of_ms) < seen_s
        if inside and attempt.answered and not shared and not obeys(attempt):
            text = f"{attempt.kind} used {mark.details['name']}, which was forced open"
            yield Breach(Invariant.OVERRIDES_HELD, Harm.CONDUCT, text)


def _without_index(attempt: Attempt) -> bool:
    source = attempt.meta.source if attempt.meta else ""
    return source != "INDEX" and not any(
        told.indexed and told.outcome == "APPLIED" for told in attempt.told
    )


def _without_writes(attempt: Attempt) -> bool:
    return attempt.kind != SUBMIT or all(told.code != OK for told in attempt.told)


def _without_database(attempt: Attempt) -> bool:
    return attempt.meta is None or attempt.meta.source != "DATABASE"


_OBEYS: Final[Mapping[str, Callable[[Attempt], bool]]] = {
    "redis/*": _without_index,
    "postgres/write": _without_writes,
    "postgres/read": _without_database,
}


def _conduct(invariant: Invariant, text: str) -> Breach:
    return Breach(invariant, Harm.CONDUCT, text)
