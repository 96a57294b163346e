"""The merge against sorted()."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sharding.merge import behind, bound, merge, pairs

ROWS = st.binary(min_size=38, max_size=38) | st.integers(0, 99).map(lambda n: n.to_bytes(38))


@given(st.sets(ROWS, max_size=60), st.integers(1, 16))
def test_a_merge_has_all_the_rows_in_order(rows: set[bytes], sources: int) -> None:
    """However they lie in the blobs, and whichever end the blobs begin with."""
    parts = [
        sorted((row for row in rows if sum(row) % sources == n), reverse=n % 2 == 1)
        for n in range(sources)
    ]

    assert merge([b"".join(part) for part in parts]) == sorted(rows)


def test_a_row_is_a_key_and_a_tail() -> None:
    """32 bytes and 6."""
    assert pairs([b"k" * 32 + b"t" * 6]) == [(b"k" * 32, b"t" * 6)]


@given(ROWS, st.binary(max_size=40))
def test_a_point_has_the_same_rows_before_it_as_keys(row: bytes, point: bytes) -> None:
    """Also where it is a key, the beginning of one, or what lies behind one."""
    live = row[:32] + bytes([row[32] & 0x3F]) + row[33:]
    for place in (point, live[:16], live[:32], live[:32] + b"\0", live[:32] + b"\0" * 9):
        assert (live < bound(place)) == (live[:32] < place)
    assert live < behind(live[:32])
