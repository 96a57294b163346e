"""Pages in bytes: the same that the whole message would give, made once for pages from memory."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from core.list_entries import EntryPage
from core.types import Exactness, RankedEntry, ReadMeta, Source, Standing
from server.rpc.codec import entries, pages
from server.rpc.codec.pages import PageEncoder
from standings.v1 import ranking_service_pb2 as pb

META = ReadMeta(
    as_of_ms=1_700_000_000_123,
    source=Source.CACHE,
    exactness=Exactness.EXACT,
    season_id="s1",
    epoch=7,
    entry_count=2,
    staleness_ms=12,
)


def a_page(score: int = 5, **meta: Any) -> EntryPage:
    """A page of two entries."""
    ranked = [
        RankedEntry(
            Standing(user_id=user, score=score, subscore=0, achieve_time_ms=user), rank=user
        )
        for user in (1, 2)
    ]
    return EntryPage(ranked, "next", "", replace(META, **meta))


def message_of(page: EntryPage) -> pb.ListEntriesResponse:
    """A page as one message."""
    message = pb.ListEntriesResponse(
        next_page_token=page.next_page_token, previous_page_token=page.previous_page_token
    )
    entries.put_entries(message.entries, page.entries, page.meta)
    entries.put_meta(message.meta, page.meta)
    return message


@pytest.mark.parametrize(
    "page",
    [
        a_page(),
        a_page(source=Source.INDEX),
        a_page(exactness=Exactness.INTERVAL, fewer=1, more=2, shards_missing=(3,)),
        EntryPage([], "", "", META),
    ],
)
def test_bytes_are_those_of_the_message(page: EntryPage) -> None:
    """Whether they are kept or not, the first time and the second."""
    encode = PageEncoder()
    for _ in range(2):
        encoded = encode(page)
        assert pb.ListEntriesResponse.FromString(encoded.SerializeToString()) == message_of(page)
        assert encoded.meta == message_of(page).meta


def test_a_page_from_memory_is_encoded_once() -> None:
    """With another age each time; one that was read is nobody else's."""
    encode = PageEncoder()
    page = a_page()
    with patch.object(pages, "_body", wraps=pages._body) as body:
        for staleness_ms in (1, 2, 3):
            again = replace(page, meta=replace(META, staleness_ms=staleness_ms))
            answer = pb.ListEntriesResponse.FromString(encode(again).SerializeToString())
            assert answer == message_of(again)
        assert body.call_count == 1
        for _ in range(2):
            encode(replace(page, meta=replace(META, source=Source.INDEX)))
        assert body.call_count == 3


def test_other_entries_are_another_page() -> None:
    """However many there were, and whatever became of the objects of earlier ones."""
    encode = PageEncoder()
    for score in range(2 * pages._KEPT_MAX):
        page = a_page(score)
        answer = pb.ListEntriesResponse.FromString(encode(page).SerializeToString())
        assert answer == message_of(page)
        del page
        gc.collect(0)
    assert len(encode._kept) == pages._KEPT_MAX
