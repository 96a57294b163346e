"""The chain of the audit: every kind of tampering is found, and where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.audit_lines import (
    Action,
    AuditLine,
    Head,
    action_content,
    next_line,
    outcome_content,
    parse_line,
    time_ms_of,
    time_text,
)
from core.verify_audit import Chain, Fault, Walk, compare

CHAIN = "c" * 32
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
ACTIONS = st.builds(
    Action,
    method=st.text(max_size=10),
    target=st.text(max_size=10),
    actor=st.text(max_size=10),
    reason=st.text(max_size=10),
    old=st.dictionaries(st.text(max_size=3), JSON, max_size=2),
    new=st.dictionaries(st.text(max_size=3), JSON, max_size=2),
)
CONTENTS = ACTIONS.map(action_content) | st.builds(
    outcome_content, st.integers(1, 9), st.sampled_from(["OK", "NOT_FOUND"]), st.just({})
)


@st.composite
def chains(draw: st.DrawFn, min_size: int = 1) -> list[AuditLine]:
    """Lines of a chain from its beginning."""
    head, lines = Head(CHAIN), []
    for content in draw(st.lists(CONTENTS, min_size=min_size, max_size=8)):
        lines.append(next_line(head, content, draw(st.integers(0, 4 * 10**12))))
        head = lines[-1].head
    return lines


def walked(texts: Sequence[bytes]) -> Chain:
    """The one chain of some lines."""
    walk = Walk()
    for data in texts:
        walk.step(data, "file")
    (chain,) = walk.chains.values()
    return chain


def fault_of(texts: Sequence[bytes]) -> tuple[Fault, int] | None:
    """What is found first, and at which line. Whose chain it is, a broken first line cannot say."""
    walk = Walk()
    for data in texts:
        walk.step(data, "file")
    found = [chain.broken for chain in walk.chains.values() if chain.broken is not None]
    return (found[0].fault, found[0].sequence) if found else None


@given(chains())
def test_what_was_written_is_whole(lines: list[AuditLine]) -> None:
    """From its beginning or from any later line on; each line is read as it was made."""
    texts = [line.data for line in lines]
    assert [parse_line(data) for data in texts] == lines
    for start in range(len(lines)):
        chain = walked(texts[start:])
        assert (chain.whole, chain.first, chain.last) == (True, start + 1, len(lines))


@given(chains(), st.data())
def test_a_changed_byte_is_found(lines: list[AuditLine], data: st.DataObject) -> None:
    """Whichever it is, in whichever line: that line is named."""
    place = data.draw(st.integers(0, len(lines) - 1))
    old = lines[place].data
    at = data.draw(st.integers(0, len(old) - 1))
    new = bytes([data.draw(st.integers(0, 255).filter(lambda byte: byte != old[at]))])
    texts = [line.data for line in lines]
    texts[place] = old[:at] + new + old[at + 1 :]

    assert fault_of(texts) == (Fault.EDITED, place + 1)


@given(chains(min_size=2), st.data())
def test_a_line_that_was_made_anew_is_found(lines: list[AuditLine], data: st.DataObject) -> None:
    """With a right hash: the line behind it was written after another one."""
    place = data.draw(st.integers(0, len(lines) - 2))
    before = lines[place - 1].head if place else Head(CHAIN)
    content = {**lines[place].content, "reason": "something else"}
    forged = next_line(before, content, time_ms_of(lines[place].time))
    texts = [line.data for line in lines]
    texts[place] = forged.data

    assert forged.hash != lines[place].hash
    assert fault_of(texts) == (Fault.EXCHANGED, place + 2)


@given(chains(min_size=3), st.data())
def test_a_removed_line_is_found(lines: list[AuditLine], data: st.DataObject) -> None:
    """Anywhere but at the ends, which PostgreSQL's copy and older files show."""
    place = data.draw(st.integers(1, len(lines) - 2))
    texts = [line.data for line in lines]
    del texts[place]

    assert fault_of(texts) == (Fault.REMOVED, place + 1)


@given(chains(min_size=3), st.data())
def test_lines_in_another_order_are_found(lines: list[AuditLine], data: st.DataObject) -> None:
    """Two that changed places, and one that stands twice."""
    here = data.draw(st.integers(1, len(lines) - 2))
    there = data.draw(st.integers(here + 1, len(lines) - 1))
    texts = [line.data for line in lines]
    twice = [*texts[: there + 1], texts[here], *texts[there + 1 :]]
    texts[here], texts[there] = texts[there], texts[here]

    assert fault_of(texts) == (Fault.REORDERED, here + 1)
    assert fault_of(twice) == (Fault.REORDERED, here + 1)


@given(chains(min_size=2), st.data())
def test_a_cut_end_is_found_in_the_copy(lines: list[AuditLine], data: st.DataObject) -> None:
    """The file alone looks whole; the copy knows more. The other way round is no fault: what is
    new has not been shipped yet.
    """
    kept = data.draw(st.integers(1, len(lines) - 1))
    texts = [line.data for line in lines]
    short, whole = walked(texts[:kept]), walked(texts)

    assert short.whole
    (finding,) = compare({CHAIN: short}, {CHAIN: whole})
    assert (finding.fault, finding.sequence) == (Fault.TRUNCATED, kept + 1)
    assert list(compare({CHAIN: whole}, {CHAIN: short})) == []
    assert list(compare({CHAIN: whole}, {CHAIN: whole})) == []
    assert list(compare({CHAIN: whole}, {})) == []


@given(chains(min_size=2), st.data())
def test_a_rewritten_end_is_found_in_the_copy(lines: list[AuditLine], data: st.DataObject) -> None:
    """All from some line on was made anew, so that the file alone is whole."""
    place = data.draw(st.integers(0, len(lines) - 1))
    head = lines[place - 1].head if place else Head(CHAIN)
    forged = [line.data for line in lines[:place]]
    for line in lines[place:]:
        made = next_line(head, {**line.content, "reason": "another"}, time_ms_of(line.time))
        forged.append(made.data)
        head = made.head
    ours, theirs = walked(forged), walked([line.data for line in lines])

    assert ours.whole
    (finding,) = compare({CHAIN: ours}, {CHAIN: theirs})
    assert (finding.fault, finding.sequence) == (Fault.DIFFERENT, place + 1)


def test_a_torn_end_is_told_and_is_no_break() -> None:
    """The next line will close it."""
    line = next_line(Head(CHAIN), action_content(Action("m", "t")), 0)
    walk = Walk()
    walk.step(line.data, "file")
    walk.step(line.data[:10], "file", ended=False)
    chain = walk.chains[CHAIN]

    assert chain.whole
    assert chain.torn is not None
    assert chain.torn.sequence == 2
    assert chain.open_actions == {1}


@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_line_is_none(data: bytes) -> None:
    """Whatever it is instead."""
    assert parse_line(data) is None


@pytest.mark.parametrize(
    "change",
    [{"kind": "else"}, {"chain": 5}, {"sequence": None}, {"time": 1}, {"hash": "zz"}],
)
def test_a_line_of_other_types_is_none(change: dict[str, Any]) -> None:
    """Also where its hash was made to fit nothing."""
    line = next_line(Head(CHAIN), action_content(Action("m", "t")), 0)
    whole = {**json.loads(line.data), **change}

    assert parse_line(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()) is None


@given(st.lists(st.integers(0, 250_000_000_000_000), min_size=2, max_size=2))
def test_times_are_texts_in_their_order(moments: list[int]) -> None:
    """To the ms, and back."""
    one, two = moments

    assert time_ms_of(time_text(one)) == one
    assert (one < two) == (time_text(one) < time_text(two))
