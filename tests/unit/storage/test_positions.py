"""Of when a standby's state is, by the marks that its primary has left."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from storage.positions import Position, PrimaryMarks

HISTORY = (7, 5, 1)


def primary(lsn: int, history: tuple[int, int, int] = HISTORY) -> Position:
    """What a primary says."""
    return Position(standby=False, history=history, lsn=lsn, horizon=0)


def standby(lsn: int, history: tuple[int, int, int] = HISTORY) -> Position:
    """What a standby says."""
    return Position(standby=True, history=history, lsn=lsn, horizon=0)


def marked(*marks: tuple[int, float]) -> PrimaryMarks:
    """Marks of one history: places, and when they were asked for."""
    known = PrimaryMarks()
    for lsn, asked_s in marks:
        known.note(primary(lsn), asked_s)
    return known


@given(
    commits=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), max_size=40),
    looks=st.lists(st.integers(0, 220), max_size=30),
    place=st.integers(0, 400),
)
def test_what_was_committed_before_is_replayed(
    commits: list[tuple[int, int]], looks: list[int], place: int
) -> None:
    """Whatever is committed and looked at when, and wherever a standby is."""
    log: list[tuple[int, int]] = []
    for size, pause in commits:
        lsn, at_s = log[-1] if log else (0, 0)
        log.append((lsn + size, at_s + pause))
    known = PrimaryMarks()
    for look_s in sorted(looks):
        known.note(primary(max((lsn for lsn, at_s in log if at_s <= look_s), default=0)), look_s)

    as_of_s = known.as_of_s(standby(place))

    if as_of_s is not None:
        assert all(lsn <= place for lsn, at_s in log if at_s < as_of_s)
        # And no mark says more that could be said.
        assert not any(
            look_s > as_of_s
            and max((lsn for lsn, at_s in log if at_s <= look_s), default=0) <= place
            for look_s in looks
        )


def test_a_quiet_primary_keeps_its_standby_young() -> None:
    """The same place later on is as good as another one."""
    assert marked((10, 1.0), (10, 2.0), (10, 9.0)).as_of_s(standby(10)) == 9.0


def test_a_standby_that_lags_is_as_old_as_the_last_mark_it_has_passed() -> None:
    """Before the first one nobody knows."""
    known = marked((10, 1.0), (20, 2.0), (30, 3.0))

    assert [known.as_of_s(standby(lsn)) for lsn in (9, 10, 29, 30, 99)] == [None, 1, 2, 3, 3]


def test_who_is_no_standby_of_this_primary_is_of_no_age() -> None:
    """Promoted, of another cluster, database or timeline."""
    known = marked((10, 1.0))

    assert known.as_of_s(primary(10)) is None
    for place, other in enumerate((8, 6, 2)):
        history = (*HISTORY[:place], other, *HISTORY[place + 1 :])
        assert known.as_of_s(standby(10, history)) is None


def test_another_history_voids_what_was_marked() -> None:
    """A promotion, and a primary that has lost what it had written."""
    known = marked((10, 1.0), (20, 2.0))
    known.note(primary(15, (7, 5, 2)), 3.0)
    assert known.as_of_s(standby(30)) is None
    assert known.as_of_s(standby(14, (7, 5, 2))) is None
    assert known.as_of_s(standby(15, (7, 5, 2))) == 3.0

    known = marked((10, 1.0), (20, 2.0), (12, 3.0))
    assert [known.as_of_s(standby(lsn)) for lsn in (11, 12)] == [None, 3.0]


def test_a_standby_in_the_primary_s_place_leaves_no_mark() -> None:
    """What it has is of no known moment."""
    known = marked((10, 1.0))
    known.note(dataclasses.replace(primary(20), standby=True), 2.0)

    assert known.as_of_s(standby(20)) == 1.0


def test_marks_are_not_kept_for_ever() -> None:
    """After a quarter of an hour a standby that has not moved is of unknown age."""
    known = marked(*((lsn, float(lsn)) for lsn in range(1, 1_000)))

    assert known.as_of_s(standby(99)) is None
    assert known.as_of_s(standby(100)) == 100.0
