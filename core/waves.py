"""Splits a flush into waves, so that one statement meets each (board, user) at most once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from core.flushes import Placed


def waves_of(placed: Sequence[Placed]) -> Sequence[Sequence[Placed]]:
    """The submissions by how often their (board, user) stood before them, order kept.

    The k-th submission of one (board, user) is in the k-th wave; its arrival is already fixed, so
    applying the waves in order gives what one after the other would have given (PROTOCOL P1).
    """
    keys = [(item.board.number, item.submission.user_id) for item in placed]
    if len(set(keys)) == len(keys):
        return [placed] if placed else []
    seen: Counter[tuple[int, int]] = Counter()
    waves: list[list[Placed]] = []
    for item, key in zip(placed, keys, strict=True):
        wave = seen[key]
        seen[key] = wave + 1
        if wave == len(waves):
            waves.append([])
        waves[wave].append(item)
    return waves
