"""The ordering key: byte order is rank order."""

from hypothesis import given
from hypothesis import strategies as st

from core.ordering import (
    END,
    EntryState,
    Item,
    Ordering,
    decode_item,
    encode_item,
    ranks_of,
)
from core.types import INT64_MAX, INT64_MIN, RankMode, ScoreRange, SortOrder
from tests.fakes.making import board_spec

_numbers = st.sampled_from([INT64_MIN, -1, 0, 1, INT64_MAX]) | st.integers(INT64_MIN, INT64_MAX)
_entries = st.tuples(_numbers, _numbers, st.integers(0, INT64_MAX), st.integers(1, INT64_MAX))


@given(st.sampled_from(SortOrder), st.sampled_from(SortOrder), _entries, _entries)
def test_keys_sort_as_entries_do(
    first: SortOrder,
    second: SortOrder,
    left: tuple[int, int, int, int],
    right: tuple[int, int, int, int],
) -> None:
    """Score and subscore in the board's directions, then arrival, then user."""
    ordering = Ordering.of(board_spec(sort_order=first, subscore_sort_order=second))

    def place(entry: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        score, subscore, arrival, user_id = entry
        return (
            score if first is SortOrder.ASCENDING else -score,
            subscore if second is SortOrder.ASCENDING else -subscore,
            arrival,
            user_id,
        )

    assert (ordering.key(*left) < ordering.key(*right)) == (place(left) < place(right))


@given(st.sampled_from(SortOrder), st.sampled_from(SortOrder), _entries, st.integers(0, 2**46 - 1))
def test_a_key_gives_its_entry_back(
    first: SortOrder, second: SortOrder, entry: tuple[int, int, int, int], achieve_time_ms: int
) -> None:
    """Nothing is lost on the way through the bytes, and the result is the key's beginning."""
    ordering = Ordering.of(board_spec(sort_order=first, subscore_sort_order=second))
    key = ordering.key(*entry)

    standing = ordering.standing(key, achieve_time_ms.to_bytes(6, "big"))

    assert (standing.score, standing.subscore, standing.user_id) == (entry[0], entry[1], entry[3])
    assert standing.achieve_time_ms == achieve_time_ms
    assert key.startswith(ordering.result(entry[0], entry[1]))


@given(
    st.integers(1, INT64_MAX),
    st.binary(min_size=24, max_size=24),
    st.integers(0, 2**48 - 1),
    st.sampled_from(EntryState),
    st.integers(0, 2**46 - 1),
)
def test_an_item_survives_its_bytes(
    user_id: int, prefix: bytes, revision: int, state: EntryState, achieve_time_ms: int
) -> None:
    """44 bytes hold a user, its key, revision, state and time."""
    item = Item(user_id, prefix, revision, state, achieve_time_ms)

    assert len(encode_item(item)) == 44
    assert decode_item(encode_item(item)) == item


@given(st.sampled_from(SortOrder), st.sampled_from(SortOrder), _entries, _numbers, _numbers)
def test_the_place_behind_a_result_is_after_all_entries_with_it(
    first: SortOrder,
    second: SortOrder,
    entry: tuple[int, int, int, int],
    score: int,
    subscore: int,
) -> None:
    """And before all entries with a worse one, also at the ends of the numbers."""
    ordering = Ordering.of(board_spec(sort_order=first, subscore_sort_order=second))
    key, result = ordering.key(*entry), ordering.result(score, subscore)

    assert (key < ordering.behind(score, subscore)) == (key[:16] <= result)
    assert key < END


@given(st.sampled_from(SortOrder), st.none() | _numbers, st.none() | _numbers, _entries)
def test_a_range_of_keys_holds_the_scores_of_a_range(
    order: SortOrder, low: int | None, high: int | None, entry: tuple[int, int, int, int]
) -> None:
    """Both ends are inside, in either direction, also at the ends of the numbers."""
    ordering = Ordering.of(board_spec(sort_order=order))
    within, key = ordering.key_range(ScoreRange(low, high)), ordering.key(*entry)

    inside = (low is None or low <= entry[0]) and (high is None or entry[0] <= high)
    assert inside == (within.low <= key and (not within.high or key < within.high))


def test_ranks_pass_a_hidden_entry_over() -> None:
    """It gets the rank it would have; whoever stands behind it has the rank as without it."""
    results = [bytes(15) + bytes((result,)) for result in (1, 1, 2, 2, 3)]
    keys = [result + bytes(15) + bytes((place,)) for place, result in enumerate(results)]

    assert ranks_of(keys, RankMode.ORDINAL, before=4, hidden=2) == [5, 6, 7, 7, 8]
    assert ranks_of(keys, RankMode.COMPETITION, before=4, first=3, hidden=2) == [3, 3, 7, 7, 8]
    assert ranks_of(keys, RankMode.COMPETITION, hidden=0) == [1, 1, 2, 2, 4]
