"""States and what lies between them: nothing is lost by reading slowly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.types import RankedEntry, RankMode, Standing
from core.watch_states import (
    KnownStates,
    WatchState,
    WatchTarget,
    difference,
    question_digest,
    state_of,
)

_scores = st.dictionaries(st.integers(1, 12), st.integers(0, 5), max_size=12)
_histories = st.lists(st.tuples(_scores, st.booleans()), min_size=1, max_size=12)


def state(scores: dict[int, int], *, count: int = 5) -> WatchState:
    """The best of some users by score."""
    best = sorted(scores, key=lambda user: (-scores[user], user))[:count]
    return state_of(
        [
            RankedEntry(Standing(user, scores[user], 0, scores[user]), rank)
            for rank, user in enumerate(best, start=1)
        ]
    )


@given(_histories)
def test_changes_lead_to_the_latest_state(history: list[tuple[dict[int, int], bool]]) -> None:
    """Whoever applies the changes between the states it happened to see has the latest one."""
    states = [(state(scores), seen) for scores, seen in history]
    sent, latest = states[0][0], states[-1][0]
    shown = {entry.standing.user_id: entry for entry in sent.entries}
    for current in [state for state, seen in states[1:] if seen] + [latest]:
        changed, removed = difference(sent, current)
        assert not {entry.standing.user_id for entry in changed} & set(removed)
        for user_id in removed:
            del shown[user_id]
        shown.update((entry.standing.user_id, entry) for entry in changed)
        sent = current

    assert sorted(shown.values(), key=lambda entry: entry.rank) == list(latest.entries)


@given(_scores, _scores)
def test_only_what_differs_is_told(old: dict[int, int], new: dict[int, int]) -> None:
    """An entry that stayed as it was is in no message, and equal states have equal digests."""
    before, after = state(old), state(new)
    changed, removed = difference(before, after)

    assert set(changed) == set(after.entries) - set(before.entries)
    assert len(removed) == len(set(removed))
    assert (before.digest == after.digest) == (before.entries == after.entries)


def test_the_last_32_states_are_known() -> None:
    """The 33rd pushes out the oldest; one that comes again is young again."""
    known = KnownStates()
    states = [state({1: score}) for score in range(33)]
    for each in states[:32]:
        known.note(1, b"question", each)
    known.note(1, b"question", states[0])
    known.note(1, b"question", states[32])

    assert known.get(1, b"question", states[0].digest) is states[0]
    assert known.get(1, b"question", states[1].digest) is None
    assert known.get(2, b"question", states[0].digest) is None


def test_states_of_all_questions_together_are_bounded() -> None:
    """Questions that have not changed for longest are forgotten first."""
    known = KnownStates()
    large = state({user: user for user in range(1, 1001)}, count=1000)
    for question in range(600):
        known.note(1, b"%d" % question, large)
    kept = [number for number in range(600) if known.get(1, b"%d" % number, large.digest)]

    # 1,000 entries each, and 8 for the state.
    assert kept == list(range(600 - 500_000 // 1_008, 600))


def test_states_without_entries_are_bounded() -> None:
    """Lists of users who have no entry leave no more behind than others do."""
    known = KnownStates()
    empty = state_of(())
    for question in range(70_000):
        known.note(1, b"%d" % question, empty)
    kept = [number for number in range(70_000) if known.get(1, b"%d" % number, empty.digest)]

    assert kept == list(range(70_000 - 500_000 // 8, 70_000))


def test_questions_have_names_of_their_own() -> None:
    """Board, rank mode and target: each makes another question."""
    questions = [
        ("a", RankMode.ORDINAL, WatchTarget(top_count=1)),
        ("b", RankMode.ORDINAL, WatchTarget(top_count=1)),
        ("a", RankMode.COMPETITION, WatchTarget(top_count=1)),
        ("a", RankMode.ORDINAL, WatchTarget(top_count=2)),
        ("a", RankMode.ORDINAL, WatchTarget(user_ids=(1,))),
    ]

    assert len({question_digest(*question) for question in questions}) == len(questions)
