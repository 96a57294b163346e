"""What it is worth to wait for others, by how long things take."""

from __future__ import annotations

import pytest

from core.pace import Pace


@pytest.mark.parametrize(
    ("took_ms", "rest_ms"), [(0, 6), (2.9, 6), (3.1, 6.2), (7.4, 14.8), (7.6, 15), (900, 15)]
)
def test_the_rest_is_twice_as_long_within_bounds(took_ms: float, rest_ms: float) -> None:
    """Of what took the same again and again."""
    pace = Pace(0.015)
    for _ in range(100):
        pace.note(took_ms / 1000)

    assert pace.rest_s == pytest.approx(rest_ms / 1000)


def test_one_that_takes_long_says_little() -> None:
    """A machine that stood still once is not slow."""
    pace = Pace(0.025)
    for _ in range(100):
        pace.note(0.004)
    pace.note(0.014)

    assert pace.took_s == pytest.approx(0.007)
