"""Submission ids: UUIDv7, unique, in the order they were made."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from standings_client import Environment
from standings_client._ids import SubmissionIds

REAL = Environment()
TIMES_MS = st.lists(st.integers(0, 2**48 - 2**10), min_size=1, max_size=50)


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1))
def test_the_bits_are_where_the_rfc_wants_them(time_ms: int, tail: int) -> None:
    """Time, version, variant, and 74 random bits in the rest."""
    made = SubmissionIds(lambda: time_ms, lambda _: tail).mint()

    value = uuid.UUID(made)
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert value.int >> 80 == time_ms
    assert ((value.int >> 64 & 0xFFF) << 62 | value.int & (2**62 - 1)) == tail
    assert made == str(value)


@given(TIMES_MS)
def test_each_is_greater_than_the_one_before(times_ms: Any) -> None:
    """Also where the clock stands still or goes back."""
    clock = iter(times_ms)
    ids = SubmissionIds(lambda: next(clock), REAL.random_bits)

    made = [ids.mint() for _ in times_ms]

    assert made == sorted(set(made))


@given(TIMES_MS)
def test_a_full_millisecond_runs_into_the_next(times_ms: Any) -> None:
    """Where the tail is used up, the order still holds."""
    clock = iter(times_ms)
    ids = SubmissionIds(lambda: next(clock), lambda bits: 2**bits - 1)

    made = [ids.mint() for _ in times_ms]

    assert made == sorted(set(made))


def test_threads_never_share_an_id() -> None:
    """Eight threads make 8,000 different ids."""
    ids = SubmissionIds(REAL.wall_ms, REAL.random_bits)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ids.mint(), range(8_000)))

    assert len(set(made)) == 8_000


def test_a_corrected_clock_counts_at_once() -> None:
    """After a correction ids bear the server's time, though it is earlier."""
    ids = SubmissionIds(lambda: 2_000_000, REAL.random_bits)
    ids.mint()

    ids.correct(1_000_000)

    assert uuid.UUID(ids.mint()).int >> 80 == 1_000_000
