"""What several parts of an answer say of themselves together."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Final

from core.ports import IndexView
from core.types import Source

NOTHING: Final = IndexView(epoch=0, entry_count=0)


def joined(views: Iterable[IndexView]) -> IndexView:
    """The view of several reads, each about shards of its own."""
    rest = iter(views)
    return reduce(_join, rest, next(rest, NOTHING))


def as_old_as(view: IndexView, other: IndexView) -> IndexView:
    """The view of two reads about the same shards, the second of which adds no counts: no more
    than the one that was behind further.
    """
    return _join(view, other, entry_count=view.entry_count)


def _join(one: IndexView, other: IndexView, *, entry_count: int | None = None) -> IndexView:
    return IndexView(
        epoch=max(one.epoch, other.epoch),
        entry_count=one.entry_count + other.entry_count if entry_count is None else entry_count,
        caught_up_ms=_earlier(one.caught_up_ms, other.caught_up_ms),
        source=Source(max(one.source, other.source)),
        missing=one.missing | other.missing,
        fewer=one.fewer + other.fewer,
        more=one.more + other.more,
        snapshot_ms=_earlier(one.snapshot_ms, other.snapshot_ms),
    )


def _earlier(one_ms: int, other_ms: int) -> int:
    """The earlier of two times, of which 0 is none."""
    return min(one_ms, other_ms) if one_ms and other_ms else one_ms or other_ms
