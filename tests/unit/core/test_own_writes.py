"""What a worker remembers of its own writes, against a list of all of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core import own_writes
from core.ordering import Item, Ordering, encode_item
from core.own_writes import EVERY_RESULT, Mark, OwnWrites
from core.types import (
    LAG_MS_MAX,
    Board,
    EntryState,
    IndexChange,
    Outcome,
    Recorded,
    Season,
    SortOrder,
    Standing,
)
from tests.fakes.held import HeldClock
from tests.fakes.making import board_spec

BOARD = Board(1, board_spec(), Season(1, "s1"), 1, 0, 0)
ORDER = Ordering.of(BOARD.spec)

_seasons = st.integers(1, 3)
_results = st.integers(0, 6)
_writes = st.tuples(st.just("write"), _seasons, _results, st.integers(-1, 1))
_forgets = st.tuples(st.just("forget"), _seasons, st.just(0), st.just(0))
_marks = st.tuples(st.just("mark"), _seasons, st.just(0), st.just(0))
_MARK = ("mark", 1, 0, 0)
_steps = st.lists(st.one_of(_writes, _writes, _writes, _marks, _marks, _forgets), max_size=60)


def result(number: int) -> bytes:
    """A result; smaller numbers stand first."""
    return number.to_bytes(16, "big")


@dataclass
class NaiveList:
    """Every write ever, and how many there were at each mark."""

    writes: list[tuple[int, int, int]] = field(default_factory=list)
    void: dict[int, int] = field(default_factory=dict)
    marks: list[tuple[int, int, Mark]] = field(default_factory=list)

    def since(self, season: int, place: int) -> list[tuple[int, int]]:
        """The (result, added) of a season from a place in the list on."""
        return [(place, added) for other, place, added in self.writes[place:] if other == season]


def play(steps: list[tuple[str, int, int, int]]) -> tuple[OwnWrites, NaiveList]:
    """Both after the same history."""
    own, naive = OwnWrites(), NaiveList()
    for action, season, number, added in steps:
        if action == "write":
            own.wrote(season, result(number), added)
            naive.writes.append((season, number, added))
        elif action == "forget":
            own.forget(season)
            naive.void[season] = len(naive.marks)
        else:
            naive.marks.append((season, len(naive.writes), own.mark(season)))
    return own, naive


@example([_MARK, ("write", 1, 5, 0), ("write", 1, 2, 0), ("write", 1, 4, 0)])
@given(_steps)
def test_it_tells_what_a_list_of_all_writes_tells(steps: list[tuple[str, int, int, int]]) -> None:
    """Touched, void and added are exact as long as nothing has to be forgotten."""
    own, naive = play(steps)

    for number, (season, place, mark) in enumerate(naive.marks):
        void = number < naive.void.get(season, 0)
        since = naive.since(season, place)
        assert own.voided_since(season, mark) == void
        assert own.added_since(season, mark) == (0 if void else sum(added for _, added in since))
        for upto in range(7):
            untouched = not void and all(written > upto for written, _ in since)
            assert own.untouched_since(season, mark, result(upto)) == untouched


@example([_MARK, *(("write", 1, number, 0) for number in range(5))])
@given(_steps)
def test_with_little_memory_it_errs_to_touched(steps: list[tuple[str, int, int, int]]) -> None:
    """Whatever is forgotten, no write is; and what is not void is counted right."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_writes, "_SEASONS_MAX", 2)
        patch.setattr(own_writes, "_STEPS_MAX", 3)
        own, naive = play(steps)

    for number, (season, place, mark) in enumerate(naive.marks):
        since = naive.since(season, place)
        if number < naive.void.get(season, 0):
            assert own.voided_since(season, mark)
        if not own.voided_since(season, mark):
            assert own.added_since(season, mark) == sum(added for _, added in since)
        for upto in range(7):
            if own.untouched_since(season, mark, result(upto)):
                assert number >= naive.void.get(season, 0)
                assert all(written > upto for written, _ in since)


def test_memory_is_bounded_in_steps_and_seasons() -> None:
    """Results in falling order are the worst case, and one write to each of many seasons."""
    own = OwnWrites()
    begin = own.mark(1)
    for number in range(5_000):
        own.wrote(1, result(number), 1)
    for season in range(2, 5_000):
        own.wrote(season, result(5), 1)

    assert len(own._seasons) == own_writes._SEASONS_MAX
    assert max(len(season.results) for season in own._seasons.values()) <= own_writes._STEPS_MAX
    assert not own.untouched_since(1, begin, result(0))


def test_a_season_that_was_written_to_lately_is_remembered() -> None:
    """Many others do not push it out."""
    own = OwnWrites()
    mark = own.mark(1)
    for season in range(2, 3_000):
        own.wrote(1, result(3), 1)
        own.wrote(season, result(0), 0)

    assert own.untouched_since(1, mark, result(2))
    assert not own.untouched_since(1, mark, result(3))
    assert own.added_since(1, mark) == 2_998


def test_a_forgotten_count_is_not_taken_for_a_new_one() -> None:
    """A mark outlives what was counted before it; only what came after it is told."""
    own = OwnWrites()
    own.wrote(1, result(3), 5)
    for season in range(2, own_writes._SEASONS_MAX + 1):
        own.wrote(season, result(0), 0)
    mark = own.mark(1)
    own.wrote(5_000, result(0), 0)
    own.wrote(1, result(3), 1)

    assert own.added_since(1, mark) == 1


# --- flushes -----------------------------------------------------------------------------------


def recorded(
    score: int, before: int | None, *, outcome: Outcome = Outcome.APPLIED, season: int = 1
) -> Recorded:
    """What the ledger says of a submission of user 7."""
    return Recorded(
        submission_id="",
        outcome=outcome,
        first_outcome=Outcome.APPLIED,
        entry=Standing(7, score, 0, 0),
        previous=None if before is None else Standing(7, before, 0, 0),
        season=Season(season, "s"),
        xid=1,
        touches_index=outcome is not Outcome.UNCHANGED,
    )


def change(
    user_id: int, score: int, revision: int, state: EntryState = EntryState.LIVE
) -> IndexChange:
    """What the index is told of an entry."""
    prefix = ORDER.key(score, 0, revision, user_id)[:24]
    item = Item(user_id, prefix, revision, state, 1_000 + revision)
    return IndexChange(1, user_id % 16, encode_item(item))


@pytest.mark.parametrize(("before", "after"), [(50, 80), (80, 50), (None, 80)])
def test_a_move_touches_the_better_of_its_two_results(before: int | None, after: int) -> None:
    """Who stands before both of them keeps the rank; everybody else may not."""
    own = OwnWrites()
    mark = own.mark(1)

    own.flushed([(BOARD, recorded(after, before))], [])

    assert own.untouched_since(1, mark, ORDER.result(81, 0))
    assert not own.untouched_since(1, mark, ORDER.result(80, 0))
    assert not own.untouched_since(1, mark, ORDER.result(10, 0))
    assert own.added_since(1, mark) == (before is None)


def test_a_board_in_ascending_order_is_touched_the_other_way() -> None:
    """The order is that of the board, not that of the numbers."""
    spec = board_spec(sort_order=SortOrder.ASCENDING)
    own = OwnWrites()
    mark = own.mark(1)

    own.flushed([(Board(1, spec, Season(1, "s1"), 1, 0, 0), recorded(80, 50))], [])

    assert own.untouched_since(1, mark, Ordering.of(spec).result(49, 0))
    assert not own.untouched_since(1, mark, Ordering.of(spec).result(50, 0))


def test_what_changed_nothing_touches_nothing() -> None:
    """A submission that left its entry where it was voids no answer."""
    own = OwnWrites()
    mark = own.mark(1)

    own.flushed([(BOARD, recorded(80, 80, outcome=Outcome.UNCHANGED))], [])

    assert own.untouched_since(1, mark, EVERY_RESULT)
    assert own.mark(1) == mark


def test_a_duplicate_touches_but_adds_nothing() -> None:
    """The first one may have been another worker's, and no answer here has it; it was counted."""
    own = OwnWrites()
    mark = own.mark(1)

    own.flushed([(BOARD, recorded(80, None, outcome=Outcome.DUPLICATE))], [])

    assert not own.untouched_since(1, mark, ORDER.result(80, 0))
    assert own.added_since(1, mark) == 0


def test_after_a_miss_a_read_may_lack_writes_for_a_while() -> None:
    """Until the index has to say of itself that it is behind, and a second for other clocks."""
    clock = HeldClock()
    own = OwnWrites(monotonic_s=clock.monotonic_s)
    own.flushed([], [], missed={(1, 3), (1, 5)})

    assert (own.mark(1).lacking, own.mark(2).lacking) == ({3, 5}, set())
    clock.ms += LAG_MS_MAX
    own.missed([(1, 5), *((season, 0) for season in range(2, 5_000))])
    assert own.mark(1).lacking == {3, 5}
    clock.ms += 1_000
    own.missed([(5_000, 0)])
    assert [own.mark(season).lacking for season in (1, 2, 4_999)] == [{5}, {0}, {0}]
    clock.ms += LAG_MS_MAX
    own.missed([])
    assert [own.mark(season).lacking for season in (1, 2, 5_000)] == [set(), set(), {0}]


def test_a_hidden_users_first_entry_adds_nothing() -> None:
    """Nobody counts it."""
    own = OwnWrites()
    mark = own.mark(1)
    first = recorded(80, None)
    assert first.entry is not None

    own.flushed([(BOARD, first)], [change(first.entry.user_id, 80, 1, EntryState.HIDDEN)])

    assert own.added_since(1, mark) == 0


def test_a_flush_is_noted_once_for_each_season() -> None:
    """What counts of a flush is its best result and all its new entries."""
    own = OwnWrites()
    first, second = own.mark(1), own.mark(2)

    own.flushed([(BOARD, recorded(score, None)) for score in (5, 9, 7)], [])
    own.flushed([(BOARD, recorded(3, 2, season=2))], [])

    assert own.mark(1) == Mark(2, 3)
    assert not own.untouched_since(1, first, ORDER.result(9, 0))
    assert own.untouched_since(2, second, ORDER.result(4, 0))


def test_the_newest_revision_of_an_entry_is_kept() -> None:
    """Flushes may end in another order than they were recorded in."""
    own = OwnWrites()

    own.flushed([], [change(7, 50, 2), change(8, 1, 1)])
    own.flushed([], [change(7, 40, 1)])

    entry = own.entry(1, 7)
    assert entry is not None
    assert (entry.revision, entry.key) == (2, ORDER.key(50, 0, 2, 7))
    assert own.entry(2, 7) is None


def test_entries_are_kept_of_the_users_written_last() -> None:
    """As many as allowed; none when that is nothing."""
    own, none = OwnWrites(users_max=3), OwnWrites(users_max=0)

    for user in (1, 2, 3, 1, 4):
        own.flushed([], [change(user, 1, 1)])
        none.flushed([], [change(user, 1, 1)])

    assert [user for user in range(1, 5) if own.entry(1, user)] == [1, 3, 4]
    assert not none._items


def test_what_is_forgotten_of_a_season_are_its_entries_too() -> None:
    """A user who was deleted begins again with the first revision."""
    own = OwnWrites()
    own.flushed([], [change(7, 50, 9)])

    own.forget(1)

    assert own.entry(1, 7) is None
