"""A soak finds what it looks for: each of its judges, given something wrong, says so."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from chaos.conduct import Vitals
from chaos.soak.calling import CODES, Calling, Mood
from chaos.soak.ledgers import compare
from chaos.soak.owners import Owner
from chaos.soak.tally import End, Tally
from chaos.soak.vitals import Sample, growing, held, resident_slope
from chaos.soak.watchers import View
from chaos.stores import Event, Found, Ledger, Standing
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2

MIB = 2**20
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _samples(sizes_mib: Sequence[float]) -> list[Sample]:
    return [Sample(5.0 * at, Vitals(80, size * MIB, 60)) for at, size in enumerate(sizes_mib)]


def test_growth_is_found_and_peaks_are_none() -> None:
    """200 MiB that become 220 are too much; a peak on the way, or 3 MiB more, are not."""
    assert list(growing(_samples([200 + at for at in range(30)])))
    assert not list(growing(_samples([200, 201, 202] * 5 + [900] + [202, 203, 201] * 5)))
    assert not list(growing(_samples([200 + at / 10 for at in range(30)])))
    assert not list(growing(_samples([100, 900])))


def test_the_slope_is_that_of_most() -> None:
    """1 MiB in 5 s is 720 an hour, whatever one sample says."""
    assert resident_slope(_samples([1, 2, 3, 4, 99, 6, 7, 8, 9])) / MIB == pytest.approx(720)
    assert resident_slope(_samples([7])) == 0


def test_what_is_held_at_rest() -> None:
    """Descriptors and tasks that came to stay, beyond a few."""
    before = Vitals(descriptors=70, resident_bytes=1, tasks=50)
    assert not list(held(before, Vitals(73, 9, 53)))
    assert len(list(held(before, Vitals(80, 9, 60)))) == 2


@pytest.mark.parametrize("code", ["UNKNOWN", "INTERNAL", "none"])
@pytest.mark.parametrize("mood", Mood)
def test_no_caller_may_miss_a_status(mood: Mood, code: str) -> None:
    """A stream that ends without trailers is told as one of these; nobody may be told that."""
    tally = Tally()
    tally.ended(mood.value, "GetEntry", End(code, "no status"), CODES[mood])

    assert tally.wrong_count == 1
    assert "no status" in tally.texts[0]
    assert tally.told() == {mood.value: {code: 1}}


def test_only_who_explains_himself_may_be_unavailable() -> None:
    """UNAVAILABLE of the server is no fault of the transport; of a library it is."""
    tally = Tally()
    tally.ended("patient", "GetEntry", End("UNAVAILABLE", "", explained=True), {"OK"})
    assert tally.wrong_count == 0

    tally.ended("patient", "GetEntry", End("UNAVAILABLE", "Socket closed"), {"OK"})
    tally.ended("patient", "GetEntry", End("INTERNAL", "", explained=True), {"OK"})
    assert tally.wrong_count == 2


def _entry(user: int, score: int, rank: int) -> types_pb2.Entry:
    return types_pb2.Entry(user_id=user, score=score, rank=rank, rank_low=rank, rank_high=rank)


@pytest.mark.parametrize(
    ("entries", "right"),
    [
        ([_entry(2, 50, 1), _entry(1, 40, 2)], True),
        ([_entry(2, 50, 1)], False),
        ([_entry(1, 40, 1), _entry(2, 50, 2)], False),
        ([_entry(2, 50, 1), _entry(1, 39, 2)], False),
        ([_entry(2, 50, 1), _entry(1, 40, 3)], False),
    ],
)
def test_an_answer_is_held_against_the_board(
    entries: Sequence[types_pb2.Entry],
    right: bool,  # noqa: FBT001 - a row of the table
) -> None:
    """The right users in order, each with its score and its place; anything else is wrong."""
    tally = Tally()
    owner = Owner("board", [1, 2, 3], Calling(random.Random(1), tally), random.Random(1))
    owner.totals = {1: 40, 2: 50, 3: 30}
    meta = types_pb2.ReadMeta(exactness=types_pb2.EXACTNESS_EXACT)

    owner._check_entries("ListEntries", entries, owner.page(2), meta)

    assert (tally.wrong_count == 0) is right


def _owner() -> Owner:
    owner = Owner("board", [1], Calling(random.Random(1), Tally()), random.Random(1))
    owner.totals, owner.counts, owner.taken = {1: 30}, Counter({1: 2}), {"a", "b"}
    return owner


def _found(ids: str, score: int, count: int) -> Found:
    events = {one: Event(one, 1, 15, 1, 15, 1, 1) for one in ids}
    after = Ledger(1, NOW, {1: Standing(score, 1, 1, count)})
    return Found("board", "INCREMENT", Ledger(1, NOW, {}), after, events, after.keys())


def test_the_ledger_is_held_against_what_was_acknowledged() -> None:
    """A submission that is not there, one of nobody, and one that counted twice are found."""
    assert not list(compare(_owner(), _found("ab", 30, 2)))
    assert list(compare(_owner(), _found("a", 30, 2)))
    assert list(compare(_owner(), _found("abc", 30, 2)))
    assert list(compare(_owner(), _found("ab", 45, 3)))


def test_a_view_knows_what_goes_backwards() -> None:
    """Scores of these boards only rise; what a snapshot leaves out is gone."""
    view = View()
    snapshot, changes = pb.WATCH_EVENT_SNAPSHOT, pb.WATCH_EVENT_CHANGES
    live = types_pb2.ReadMeta(source=types_pb2.SOURCE_INDEX)
    old = types_pb2.ReadMeta(source=types_pb2.SOURCE_SNAPSHOT, stale=True)
    view.take(pb.WatchEntriesResponse(event=snapshot, entries=[_entry(1, 5, 2), _entry(2, 9, 1)]))
    assert view.shows({1: 5, 2: 8})
    assert not view.shows({1: 6})

    view.take(pb.WatchEntriesResponse(event=changes, entries=[_entry(1, 6, 2)], meta=old))
    assert view.shows({1: 6})
    assert not view.backwards
    view.take(pb.WatchEntriesResponse(event=changes, entries=[_entry(1, 5, 2)], meta=old))
    view.take(pb.WatchEntriesResponse(event=changes, entries=[_entry(1, 5, 2)], meta=live))
    assert not view.backwards
    view.take(pb.WatchEntriesResponse(event=changes, entries=[_entry(1, 4, 2)], meta=live))
    assert view.backwards
