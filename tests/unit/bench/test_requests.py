"""The requests of a run, as they are given to ghz."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from bench.contract import SERVICE, write_protoset
from bench.requests import BATCH_SIZE, Requests, delimited, write_requests
from bench.shapes import SHAPES, page_shapes
from core.clock import SystemClock
from core.submission_ids import SubmissionIds
from standings.v1 import ranking_service_pb2 as pb


@pytest.fixture
def requests() -> Requests:
    """Of a board of a few thousand."""
    return Requests("b", 5_000, random.Random(1), SubmissionIds(SystemClock()))


def _read(data: bytes) -> Iterator[bytes]:
    """The messages of a file, as ghz tells them apart."""
    while data:
        size = shift = 0
        while True:
            byte, data = data[0], data[1:]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield data[:size]
        data = data[size:]


def test_every_submission_has_an_id_of_its_own(requests: Requests) -> None:
    """No id comes twice, in whichever kind of call, and each is a UUIDv7."""
    submissions = [requests.submit_score() for _ in range(2_000)]
    submissions += requests.batch_submit_scores().submissions
    submissions += requests.stream_submit_scores().submissions
    ids = [one.submission_id for one in submissions]

    assert len(ids) == len(set(ids)) == 2_000 + 2 * BATCH_SIZE
    assert {uuid.UUID(one).version for one in ids} == {7}
    assert {str(uuid.UUID(one)) for one in ids} == set(ids)


def test_a_batch_holds_each_user_once(requests: Requests) -> None:
    """Whoever stands in it twice would make it two statements."""
    batch = requests.batch_submit_scores().submissions

    assert len({one.user_id for one in batch}) == BATCH_SIZE
    assert all(1 <= one.user_id <= 5_000 for one in batch)


def test_streams_count_their_messages(requests: Requests) -> None:
    """Sequences rise by one."""
    assert [requests.stream_submit_scores().sequence for _ in range(3)] == [1, 2, 3]


def test_small_boards_have_small_batches() -> None:
    """No more users than there are."""
    requests = Requests("b", 7, random.Random(1), SubmissionIds(SystemClock()))

    assert len(requests.batch_submit_scores().submissions) == 7
    assert sorted(requests.batch_get_entries().user_ids) == list(range(1, 8))


def test_files_hold_what_was_made(requests: Requests, tmp_path: Path) -> None:
    """Message by message, with lengths before them."""
    made = [requests.batch_get_entries() for _ in range(5)] + [pb.BatchGetEntriesRequest()]
    write_requests(tmp_path / "requests", made)

    found = _read((tmp_path / "requests").read_bytes())
    assert made == [pb.BatchGetEntriesRequest.FromString(one) for one in found]


def test_nothing_looks_like_a_template() -> None:
    """Two braces in a row are left out, also where one ends a message."""
    harmful = pb.GetEntryRequest(board_id="a{{b")
    brace, plain = pb.GetEntryRequest(board_id="b{"), pb.GetEntryRequest(board_id="b" * 0x79)
    data = b"".join(delimited([harmful, brace, plain, pb.GetEntryRequest(board_id="c")]))

    assert plain.ByteSize() == ord("{")
    assert b"{{" not in data
    assert ["b{", "c"] == [pb.GetEntryRequest.FromString(one).board_id for one in _read(data)]


def test_shapes_make_what_their_methods_take(requests: Requests) -> None:
    """Each request is of the type that the contract names."""
    methods = pb.DESCRIPTOR.services_by_name["RankingService"].methods_by_name
    for shape in (*SHAPES, *page_shapes("token")):
        assert shape.make(requests).DESCRIPTOR == methods[shape.method].input_type


def test_pages_past_the_caches_bring_a_token(requests: Requests) -> None:
    """At the first rank and at the middle of the board."""
    first, deep = (shape.make(requests) for shape in page_shapes("token"))

    assert isinstance(first, pb.ListEntriesRequest)
    assert isinstance(deep, pb.ListEntriesRequest)
    assert [first.start_rank, deep.start_rank] == [1, 2_500]
    assert first.options.consistency_token == deep.options.consistency_token == "token"


def test_the_protoset_has_every_method_and_keeps_messages_as_they_are(
    tmp_path: Path, requests: Requests
) -> None:
    """A request that is read and written by it is the same bytes."""
    write_protoset(tmp_path / "protoset")
    pool = DescriptorPool()
    for one in FileDescriptorSet.FromString((tmp_path / "protoset").read_bytes()).file:
        pool.Add(one)
    methods = pool.FindServiceByName(SERVICE).methods_by_name

    assert set(methods) == set(pb.DESCRIPTOR.services_by_name["RankingService"].methods_by_name)
    for shape in SHAPES:
        taken = GetMessageClass(methods[shape.method].input_type)
        request = shape.make(requests).SerializeToString()
        assert taken.FromString(request).SerializeToString() == request
