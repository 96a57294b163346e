"""What is held after the trouble is compared with what was held before it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.conduct import Vitals, check_leaks
from chaos.verdicts import Invariant

BEFORE = Vitals(descriptors=60.0, resident_bytes=100 * 2**20, tasks=40.0)


@pytest.mark.parametrize(
    ("after", "leaks"),
    [
        (BEFORE, False),
        (Vitals(descriptors=68.0, resident_bytes=126 * 2**20, tasks=50.0), False),
        (Vitals(descriptors=10.0, resident_bytes=10 * 2**20, tasks=5.0), False),
        (replace(BEFORE, descriptors=68.5), True),
        (replace(BEFORE, resident_bytes=127 * 2**20), True),
        (replace(BEFORE, tasks=50.5), True),
    ],
)
def test_what_is_not_given_back_is_a_leak(after: Vitals, *, leaks: bool) -> None:
    """Each kind by itself, above what a cache or a pool may add."""
    found = [breach.invariant for breach in check_leaks(BEFORE, after)]

    assert found == ([Invariant.NO_LEAK] if leaks else [])
