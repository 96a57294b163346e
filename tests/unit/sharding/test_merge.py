"""The merge against sorted()."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sharding.merge import merge

KEYS = st.binary(min_size=32, max_size=32) | st.integers(0, 99).map(lambda n: n.to_bytes(32))


@given(st.sets(KEYS, max_size=60), st.integers(1, 16), st.integers(0, 70), st.integers(0, 70))
def test_a_merge_is_a_slice_of_the_sorted_keys(
    keys: set[bytes], sources: int, skip: int, limit: int
) -> None:
    """Wherever the keys lie, and each with where it came from."""
    parts = [sorted(key for key in keys if sum(key) % sources == n) for n in range(sources)]

    merged = merge([b"".join(part) for part in parts], skip=skip, limit=limit)

    assert [key for key, _, _ in merged] == sorted(keys)[skip : skip + limit]
    assert all(parts[source][place] == key for key, source, place in merged)
