"""The checker proves itself on histories: bugs of conduct, which no store shows, are found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.calls import RANK
from chaos.checker import check
from chaos.history import Attempt, History, MarkKind, Meta
from chaos.verdicts import Invariant


def _calm(code: str = "OK", source: str = "INDEX", *, start_s: float = 10.0) -> Attempt:
    """A call of half a second that says nothing of anybody."""
    meta = Meta(source) if code == "OK" else None
    return Attempt(
        call=int(start_s * 1000),
        number=1,
        kind=RANK,
        board="board",
        deadline_s=0.5,
        start_s=start_s,
        end_s=start_s + 0.5,
        code=code,
        meta=meta,
    )


def _history(*attempts: Attempt) -> History:
    return History(0.0, list(attempts))


def test_found_trouble_while_nothing_is_wrong() -> None:
    """Callers are refused or sent elsewhere, and nothing was broken."""
    hung_up = [_calm("CANCELLED", start_s=second) for second in range(1, 10)]
    well = _calm(start_s=20)

    assert check(_history(*hung_up, well), []).clean
    for trouble in (_calm("UNAVAILABLE", start_s=20), _calm(source="DATABASE", start_s=20)):
        assert check(_history(*hung_up, trouble), []).invariants() == {Invariant.ERRORS_TOLD}


@pytest.mark.parametrize(("start_s", "obeyed"), [(10.05, True), (10.2, False), (14.9, True)])
def test_found_disobedience_while_an_override_holds(start_s: float, *, obeyed: bool) -> None:
    """Answers still come from an index that was forced open a while ago; not before, nor after."""
    history = _history(_calm(start_s=start_s))
    history.mark(MarkKind.OVERRIDE, 10.0, name="redis/*", mode="FORCED_OPEN", ttl_s=5, laggards=[])

    assert check(history, []).invariants() == (set() if obeyed else {Invariant.OVERRIDES_HELD})


def test_found_overrides_that_are_slow_or_end_at_another_time() -> None:
    """A worker that did not follow in time, and an end long after the ttl."""
    history = _history()
    history.mark(MarkKind.OVERRIDE, 10.0, name="redis/*", mode="FORCED_OPEN", ttl_s=5, laggards=[3])
    history.mark(MarkKind.OVERRIDE_ENDED, 15.5, name="redis/*", due_s=15.0)

    assert [breach.invariant for breach in check(history, []).breaches] == [
        Invariant.OVERRIDES_HELD,
        Invariant.OVERRIDES_HELD,
    ]


def test_found_late_answers_unless_the_callers_own_machine_was_late() -> None:
    """A call may take its deadline and 0.1 s, and as long as its caller heard nothing after it."""
    late = replace(_calm(start_s=10.0), end_s=10.8)
    history = _history(late)

    assert check(history, []).invariants() == {Invariant.IN_TIME}
    history.late.append((10.85, 0.5))
    assert check(history, []).clean


def test_found_bugs_told_to_callers_and_multiplied_trouble() -> None:
    """INTERNAL is nobody's trouble; three attempts a call are too many."""
    bug = _calm("INTERNAL", start_s=10.0)
    storm = [
        replace(_calm(start_s=second), number=number)
        for second in range(100, 300)
        for number in (1, 2, 3)
    ]

    assert check(_history(bug), []).invariants() == {Invariant.ERRORS_TOLD}
    assert check(_history(*storm), []).invariants() == {Invariant.FEW_RETRIES}


def test_found_more_probes_than_are_allowed() -> None:
    """Three at once may look whether a shard is back."""
    history = _history()
    for count in (3, 4):
        history.mark(MarkKind.PROBES, 1.0, count=count)

    assert [breach.invariant for breach in check(history, []).breaches] == [Invariant.FEW_PROBES]
