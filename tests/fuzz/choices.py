"""Decisions that are read from bytes, so that Hypothesis finds the fewest that fail."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FACTOR: Final = float(os.environ.get("FUZZ_FACTOR", "1"))
"""How many times the examples of the normal suite are tried: `make fuzz` tries more."""
BYTES: Final = st.binary(min_size=16, max_size=400)

T = TypeVar("T")


def budget(example_count: int) -> settings:
    """So many examples, more where that was asked for, however long one takes."""
    return settings(
        max_examples=max(1, int(example_count * FACTOR)),
        deadline=None,
        # Files are made anew for each example.
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


class Choices:
    """Takes its decisions from bytes; when they are spent, always the first that there is."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, count: int) -> int:
        """0 to count - 1."""
        value = 0
        for _ in range(1 if count <= 256 else 4):
            value = value << 8 | self._byte()
        return value % count

    def one_of(self, options: Sequence[T]) -> T:
        """One of them."""
        return options[self.below(len(options))]

    def chance(self, of: int) -> bool:
        """Once in so many times; not when the bytes are spent."""
        return self.below(of) == of - 1

    def some_bytes(self, count_max: int) -> bytes:
        """Up to so many."""
        return bytes(self._byte() for _ in range(self.below(count_max + 1)))

    def _byte(self) -> int:
        if self._at >= len(self._data):
            return 0
        self._at += 1
        return self._data[self._at - 1]


def mutated(data: bytes, choices: Choices) -> bytes:
    """Some bytes after none, one or a few small accidents."""
    for _ in range(choices.below(4)):
        at, count = choices.below(len(data) + 1), choices.below(9)
        match choices.below(6):
            case 0:
                flipped = data[at : at + 1].translate(_flip(1 << choices.below(8)))
                data = data[:at] + flipped + data[at + 1 :]
            case 1:
                data = data[:at] + data[at + count :]
            case 2:
                data = data[:at] + choices.some_bytes(8) + data[at:]
            case 3:
                data = data[: at + count] + data[at:]
            case 4:
                data = data[:at]
            case 5:
                data = data[:at] + _VARINT_MAX + data[at + 1 :]
    return data


_VARINT_MAX: Final = b"\xff" * 9 + b"\x01"


def _flip(mask: int) -> bytes:
    return bytes(byte ^ mask for byte in range(256))
