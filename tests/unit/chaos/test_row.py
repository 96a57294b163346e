"""The figures of a row, from what its callers saw."""

from __future__ import annotations

import pytest

from chaos.history import Attempt, History, MarkKind, Meta, Told
from chaos.row import Expected, missed, seen_of, well


def _attempt(
    second: float, code: str = "OK", *, kind: str = "top", source: str = "INDEX", number: int = 1
) -> Attempt:
    """An attempt of 10 ms."""
    return Attempt(
        call=round(second * 1000),
        number=number,
        kind=kind,
        board="b",
        deadline_s=0.3,
        start_s=second,
        end_s=second + 0.01,
        code=code,
        told=(Told(code="UNAVAILABLE"),) if kind == "submit" else (),
        meta=Meta(source) if code == "OK" and kind != "submit" else None,
    )


def _run() -> History:
    """Broken from 10 to 20: errors for 2 s, answers from elsewhere until 25, and a slip at 15."""
    history = History(0.0)
    for tenth in range(300):
        second = tenth / 10
        code = "UNAVAILABLE" if 10 <= second < 12 or second == 15 else "OK"
        source = "DATABASE" if 12 <= second < 25 else "INDEX"
        history.attempts.append(_attempt(second, code, source=source))
    history.mark(MarkKind.FAULT, 10.0)
    history.mark(MarkKind.HEAL, 20.0)
    return history


def test_figures_of_a_row() -> None:
    """Calls, shares, sources, and how long it took to degrade and to heal."""
    seen = seen_of(_run())

    assert seen.calls == 300
    assert seen.errors == {"UNAVAILABLE": 21}
    assert seen.sources == {"INDEX": 150, "DATABASE": 129}
    assert seen.reads_answered == 79 / 100
    assert round(seen.degrade_s, 1) == 1.9
    assert round(seen.heal_s, 1) == 4.9


@pytest.mark.parametrize(("failed", "lasts"), [(2, False), (3, True)])
def test_a_share_is_one_of_all_that_ended_in_that_second(failed: int, *, lasts: bool) -> None:
    """Two failures around the mending are one in a hundred of 200 calls a second, half of which
    began after it; three are more.
    """
    history = History(0.0)
    for number in range(6_000):
        second = number / 200
        code = "UNAVAILABLE" if 20 - failed / 200 <= second < 20 else "OK"
        history.attempts.append(_attempt(second, code))
    history.mark(MarkKind.FAULT, 10.0)
    history.mark(MarkKind.HEAL, 20.0)

    assert (seen_of(history).degrade_s > 0) is lasts


def test_a_call_is_answered_by_any_of_its_attempts() -> None:
    """A second attempt that succeeds makes the call a success; a batch is one if all of it is."""
    history = _run()
    history.attempts = [_attempt(11, "UNAVAILABLE"), _attempt(11, number=2)]

    assert seen_of(history).reads_answered == 1
    history.attempts = [_attempt(11, kind="submit")]
    assert seen_of(history).writes_answered == 0


def test_what_was_expected_and_not_seen() -> None:
    """Each threshold that is missed is told."""
    hard = Expected(
        reads_min=0.99, degrades_s=1, heals_s=1, sources=frozenset({"SNAPSHOT"}), live=True
    )

    assert len(list(missed(hard, seen_of(_run()), 20.0))) == 6
    assert list(missed(Expected(reads_min=0.7), seen_of(_run()), 1.0)) == []


def test_a_run_is_well_when_its_last_second_was() -> None:
    """Answers from elsewhere are no more well than errors."""
    history = _run()

    assert well(history)
    history.attempts.append(_attempt(30, source="DATABASE"))
    assert not well(history)
    assert not well(History(0.0))
