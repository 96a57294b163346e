"""What a call costs, in tokens: found by the type of its request, so that a new method has a price.

One, but: a list of what is to be done or found counts each, a page counts a tenth of its entries,
and the methods below what is written there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final, TypeAlias

from google.protobuf.message import Message

from server.rpc.methods import Method

Cost: TypeAlias = Callable[[Any], int]

_LISTS: Final = ("submissions", "user_ids")
_PAGE: Final = "page_size"
_PAGE_MAX: Final = 1_000
"""More is refused anyway."""
_FIXED: Final[Mapping[str, int]] = {
    # Two windows of up to 100, and the place that they are around.
    "/standings.v1.RankingService/ListEntriesAround": 5,
}


def cost_of(method: Method) -> Cost | None:
    """What a request of a method costs; None where it is always one, and for streams, whose
    messages are paid for as they come.
    """
    if method.streaming:
        return None
    fixed = _FIXED.get(method.path)
    if fixed is not None:
        return lambda _request: fixed
    fields = method.request_type.DESCRIPTOR.fields_by_name
    for name in _LISTS:
        if name in fields:
            read = attrgetter(name)
            return lambda request: len(read(request))
    return _page if _PAGE in fields else None


def _page(request: Message) -> int:
    size: int = getattr(request, _PAGE)
    # One whose size is not said is small.
    return max(1, -(-min(size, _PAGE_MAX) // 10))
