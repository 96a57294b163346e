"""Pages of entries out. A page that is given again and again is put into bytes once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.list_entries import EntryPage
from core.types import RankedEntry, ReadMeta, Source
from server.rpc.codec import entries
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2 as types_pb

_KEPT_MAX: Final = 256
"""Pages whose bytes are kept: 1,000 entries are about 40 KiB."""


@dataclass(slots=True)
class EncodedPage:
    """A ListEntriesResponse of which all but `meta` is in bytes already."""

    body: bytes
    meta: types_pb.ReadMeta
    _whole: bytes = b""

    def SerializeToString(self) -> bytes:  # noqa: N802 - as every message has it
        """The message. One that follows another is merged into it: both stand as they are."""
        if not self._whole:
            self._whole = self.body + pb.ListEntriesResponse(meta=self.meta).SerializeToString()
        return self._whole


@dataclass(slots=True)
class _Kept:
    """A page that may be given again, and the answer that gave it last."""

    entries: Sequence[RankedEntry]
    meta: ReadMeta
    answer: EncodedPage


class PageEncoder:
    """Makes answers of pages. What comes from memory is known by its entries, which are the same
    object as long as they are the same page, and so is what it says of itself within a ms.
    """

    def __init__(self) -> None:
        # By id, which is the entries' own for as long as they are kept beside their bytes.
        self._kept: OrderedDict[int, _Kept] = OrderedDict()

    def __call__(self, page: EntryPage) -> EncodedPage:
        """The answer that gives a page."""
        if page.meta.source is not Source.CACHE:
            return EncodedPage(_body(page), entries.encode_meta(page.meta))
        key = id(page.entries)
        kept = self._kept.get(key)
        if kept is None:
            answer = EncodedPage(_body(page), entries.encode_meta(page.meta))
            self._kept[key] = _Kept(page.entries, page.meta, answer)
            if len(self._kept) > _KEPT_MAX:
                self._kept.popitem(last=False)
            return answer
        if kept.meta is not page.meta:
            kept.meta = page.meta
            kept.answer = EncodedPage(kept.answer.body, entries.encode_meta(page.meta))
        return kept.answer


def _body(page: EntryPage) -> bytes:
    body = pb.ListEntriesResponse(
        next_page_token=page.next_page_token, previous_page_token=page.previous_page_token
    )
    entries.put_entries(body.entries, page.entries, page.meta)
    return body.SerializeToString()
