"""The k-way merge of what the shards send: sorted blobs of equally long keys."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace

from core.ordering import KEY_BYTES


def merge(blobs: Sequence[bytes], *, skip: int, limit: int) -> list[tuple[bytes, int, int]]:
    """The keys number `skip` to `skip + limit` of all the blobs, in order: (key, blob, place).

    Takes O((skip + limit) log k) and never looks at the keys beyond.
    """
    heap = [(blob[:KEY_BYTES], source, 0) for source, blob in enumerate(blobs) if blob]
    heapify(heap)
    merged: list[tuple[bytes, int, int]] = []
    wanted = skip + limit
    while heap and len(merged) < wanted:
        head = heap[0]
        merged.append(head)
        _, source, place = head
        start = (place + 1) * KEY_BYTES
        following = blobs[source][start : start + KEY_BYTES]
        if following:
            heapreplace(heap, (following, source, place + 1))
        else:
            heappop(heap)
    return merged[skip:]
