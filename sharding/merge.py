"""The merge of what the shards send.

A row, which is also a member of a sorted set, is a 32-byte key and the last six bytes of its value.
As keys are unique, plain byte order of rows is rank order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

from core.ordering import KEY_BYTES

TAIL_BYTES: Final = 6
ROW_BYTES: Final = KEY_BYTES + TAIL_BYTES
_ROW: Final = struct.Struct(f"{ROW_BYTES}s")
_BEHIND: Final = b"\xff"
"""Stands behind every tail of a live entry, whose first two bits are zero."""


def merge(blobs: Iterable[bytes]) -> list[bytes]:
    """All the rows in rank order. Each blob holds rows that are in order, best or worst first.

    sorted() finds the runs and merges them without a step of Python: for 16 shards' rows it takes
    a fifth of the time of a heap.
    """
    return sorted(chain.from_iterable(_ROW.iter_unpack(b"".join(blobs))))


def bound(point: bytes) -> bytes:
    """A point among keys as one among rows: what lies behind a key lies behind its row."""
    return point if len(point) <= KEY_BYTES else behind(point)


def behind(key: bytes) -> bytes:
    """The point right behind a key's row."""
    return key[:KEY_BYTES] + _BEHIND


def pairs(rows: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The rows as (key, tail) pairs."""
    return [(row[:KEY_BYTES], row[KEY_BYTES:]) for row in rows]
