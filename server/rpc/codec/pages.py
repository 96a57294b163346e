"""Pages of entries out. A page that is given again and again is put into bytes once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.list_entries import EntryPage
from core.types import RankedEntry, Source
from server.rpc.codec import entries
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2 as types_pb

_KEPT_MAX: Final = 256
"""Pages whose bytes are kept: 1,000 entries are about 40 KiB."""


@dataclass(frozen=True, slots=True)
class EncodedPage:
    """A ListEntriesResponse of which all but `meta` is in bytes already."""

    body: bytes
    meta: types_pb.ReadMeta

    def SerializeToString(self) -> bytes:  # noqa: N802 - as every message has it
        """The message. One that follows another is merged into it: both stand as they are."""
        return self.body + pb.ListEntriesResponse(meta=self.meta).SerializeToString()


class PageEncoder:
    """Makes answers of pages. What comes from memory is known by its entries, which are the same
    object as long as they are the same page.
    """

    def __init__(self) -> None:
        # By id, which is the entries' own for as long as they are kept beside their bytes.
        self._kept: OrderedDict[int, tuple[Sequence[RankedEntry], bytes]] = OrderedDict()

    def __call__(self, page: EntryPage) -> EncodedPage:
        """The answer that gives a page."""
        meta = entries.encode_meta(page.meta)
        if page.meta.source is not Source.CACHE:
            return EncodedPage(_body(page), meta)
        key = id(page.entries)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = (page.entries, _body(page))
            if len(self._kept) > _KEPT_MAX:
                self._kept.popitem(last=False)
        return EncodedPage(kept[1], meta)


def _body(page: EntryPage) -> bytes:
    return pb.ListEntriesResponse(
        entries=entries.encode_entries(page.entries, page.meta),
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    ).SerializeToString()
