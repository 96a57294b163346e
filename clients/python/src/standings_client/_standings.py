"""The entries that a watch follows: put together from changes, and compared. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from heapq import merge
from typing import Final, TypeAlias

from standings_client.types import Entry

Entries: TypeAlias = tuple[Entry, ...]

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


def applied(before: Entries, changed: Sequence[Entry], removed_user_ids: Iterable[int]) -> Entries:
    """The entries after a message with changes, in rank order.

    What did not change kept its rank and its order, and changes come best first, so both are in
    rank order already, and one merge by rank restores the whole. Only competition ranks can tie.
    Among equals the earlier arrival stands first; that is not sent, but the time of the
    achievement is, and whoever stayed was there before a newcomer of the same millisecond. The
    order that the server sent within either part is never touched.
    """
    gone = {entry.user_id for entry in changed}.union(removed_user_ids)
    kept = [entry for entry in before if entry.user_id not in gone]
    return tuple(merge(kept, changed, key=_place))


def difference(before: Entries, after: Entries) -> tuple[Entries, tuple[int, ...]]:
    """(entries of `after` that are new or different, users of `before` that are gone)."""
    known = {entry.user_id: entry for entry in before}
    changed = tuple(entry for entry in after if known.get(entry.user_id) != entry)
    there = {entry.user_id for entry in after}
    return changed, tuple(entry.user_id for entry in before if entry.user_id not in there)


def _place(entry: Entry) -> tuple[int, datetime]:
    return entry.rank, entry.achieve_time or _NEVER
