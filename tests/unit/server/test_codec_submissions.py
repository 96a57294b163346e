"""What a score event may be, and what its digest covers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BoardNotFound, InvalidInput, SubmissionIdTooOld
from core.submit_scores import SubmitResults
from core.types import Operator, Standing, SubmitResult
from server.rpc.codec.entries import put_standing
from server.rpc.codec.metadata import decode_metadata, encode_metadata
from server.rpc.codec.submissions import (
    decode_submission,
    decode_submissions,
    encode_submit_result,
    put_submit_results,
)
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2
from tests.unit.server.fakes import MINTED_ID, SOME_ID, recorded, submission, unpacked

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def decoded(**fields: Any) -> Any:
    """A good submission with some fields changed, as the core gets it."""
    return decode_submission(submission(**fields), lambda: MINTED_ID)


def nested(depth: int) -> dict[str, Any]:
    """An object with `depth` objects inside each other, itself counted."""
    inner: dict[str, Any] = {}
    for _ in range(depth - 1):
        inner = {"a": inner}
    return inner


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"board_id": ""}, "board_id"),
        ({"board_id": "../x"}, "board_id"),
        ({"board_id": "Arena"}, "board_id"),
        ({"board_id": "a" * 65}, "board_id"),
        ({"board_id": "arena\n"}, "board_id"),
        ({"board_id": "-arena"}, "board_id"),
        ({"board_id": "arène"}, "board_id"),
        ({"user_id": 0}, "user_id"),
        ({"user_id": -1}, "user_id"),
        ({"user_id": INT64_MIN}, "user_id"),
        ({"score": None}, "score"),
        ({"submission_id": "x"}, "submission_id"),
        ({"submission_id": MINTED_ID.replace("-", "")}, "submission_id"),
        ({"submission_id": f"{{{MINTED_ID}}}"}, "submission_id"),
        ({"submission_id": f"{MINTED_ID}\n"}, "submission_id"),
        ({"submission_id": "01890a5d-ac96-474b-bcce-b302099a8057"}, "submission_id"),
        ({"submission_id": "01890a5d-ac96-774b-ccce-b302099a8057"}, "submission_id"),
        ({"submission_id": "0189\u0966a5d-ac96-774b-bcce-b302099a805"}, "submission_id"),
        ({"operator": 5}, "operator"),
        ({"operator": -1}, "operator"),
        ({"metadata": {"a": "b\0"}}, "metadata"),
        ({"metadata": {"a\0": "b"}}, "metadata"),
        ({"metadata": {"a": [{"b": "\0"}]}}, "metadata"),
        ({"metadata": {"a": math.nan}}, "metadata"),
        ({"metadata": {"a": [math.inf]}}, "metadata"),
        ({"metadata": {"a": {"b": -math.inf}}}, "metadata"),
        ({"metadata": {"a": "x" * 1017}}, "metadata"),
        ({"metadata": {"a": "x" * 100_000}}, "metadata"),
        ({"metadata": {"a": "é" * 509}}, "metadata"),
        ({"metadata": {str(i): i for i in range(1000)}}, "metadata"),
        ({"metadata": nested(17)}, "metadata"),
        ({"metadata": Struct(fields={"a": Value()})}, "metadata"),
    ],
    ids=str,
)
def test_bad_fields(fields: dict[str, Any], field: str) -> None:
    """A field that the contract does not allow is named."""
    with pytest.raises(InvalidInput) as caught:
        decoded(**fields)

    assert caught.value.field == field


@pytest.mark.parametrize(
    "fields",
    [
        {"board_id": "0"},
        {"board_id": "a.b_c-d" + "x" * 57},
        {"user_id": INT64_MAX},
        {"score": INT64_MIN, "subscore": INT64_MAX},
        {"score": 0},
        {"metadata": {"a": "x" * 1016}},
        {"metadata": nested(16)},
    ],
    ids=str,
)
def test_good_fields(fields: dict[str, Any]) -> None:
    """The edges of what is allowed are allowed."""
    decoded(**fields)


def test_ids_are_made_or_made_canonical() -> None:
    """Letters are lowered; without an id the server makes one."""
    assert decoded().submission_id == MINTED_ID
    assert decoded(submission_id=SOME_ID).submission_id == SOME_ID.lower()


@pytest.mark.parametrize(
    ("wire", "word"),
    [(0, None), (1, Operator.BEST), (2, Operator.SET), (3, Operator.INCREMENT)],
)
def test_operator(wire: int, word: Operator | None) -> None:
    """No operator means the board's."""
    assert decoded(operator=wire).operator is word


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (None, None),
        ({}, None),
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
        ({"a": 1.5, "b": -0.0, "c": 2.0**53}, '{"a":1.5,"b":0,"c":9007199254740992}'),
        ({"a": 1e300}, '{"a":1e+300}'),
        ({"a": [None, True, "é", {}, []]}, '{"a":[null,true,"é",{},[]]}'),
    ],
    ids=str,
)
def test_metadata_is_canonical(metadata: Any, text: str | None) -> None:
    """The same content is always the same text."""
    assert decoded(metadata=metadata).metadata == text


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text("xyz", max_size=3), JSON, min_size=1, max_size=4))
def test_metadata_comes_back(plain: dict[str, Any]) -> None:
    """What is stored reads back as the same canonical text."""
    struct = Struct()
    struct.update(plain)
    text = decode_metadata(struct, "metadata", bytes_max=100_000)
    assert text is not None

    assert decode_metadata(encode_metadata(text), "metadata", bytes_max=100_000) == text


@given(st.lists(st.sampled_from([0.0, True, None, "", 1e300, [], {}]), max_size=600))
def test_the_early_limit_refuses_nothing_that_fits(values: list[Any]) -> None:
    """The bound on the wire size never refuses metadata that is small enough as JSON."""
    struct = Struct()
    struct.update({"a": values})
    text = decode_metadata(struct, "metadata", bytes_max=100_000)
    assert text is not None
    bytes_max = len(text.encode())

    assert decode_metadata(struct, "metadata", bytes_max=bytes_max) == text
    with pytest.raises(InvalidInput):
        decode_metadata(struct, "metadata", bytes_max=bytes_max - 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"board_id": "arenb"},
        {"user_id": 43},
        {"score": 11},
        {"subscore": 1},
        {"operator": 1},
        {"metadata": {"a": 1}},
        {"board_id": 'arena{"a":1}'[:5] + "x", "metadata": None},
    ],
    ids=str,
)
def test_the_digest_covers_the_content(changes: dict[str, Any]) -> None:
    """Another content has another digest."""
    assert decoded(**changes).digest != decoded().digest


def test_the_digest_covers_nothing_else() -> None:
    """How and under which id the content comes does not matter."""
    plain = decoded(metadata={"a": 1, "b": 2})
    other = decoded(metadata={"b": 2, "a": 1}, submission_id=SOME_ID, return_rank=True)

    assert (32, plain.digest) == (len(other.digest), other.digest)


@pytest.mark.parametrize("count", [0, 1001])
def test_bad_envelopes(count: int) -> None:
    """An envelope holds 1 to 1,000 items."""
    with pytest.raises(InvalidInput) as caught:
        decode_submissions([submission()] * count, lambda: MINTED_ID)

    assert caught.value.field == "submissions"


def test_items_fail_in_their_place() -> None:
    """A malformed item is its own error; length and order stay."""
    good, bad, also_good = decode_submissions(
        [submission(), submission(user_id=0), submission(score=7)], lambda: MINTED_ID
    )

    assert isinstance(bad, InvalidInput)
    assert (good.score, also_good.score) == (10, 7)


def test_failed_items_are_told_with_their_place() -> None:
    """Errors of the codec and of the core alike name the item."""
    done = SubmitResults([SubmissionIdTooOld(5), BoardNotFound()], "token")
    response = pb.BatchSubmitScoresResponse()
    put_submit_results(response.results, done)
    too_old, not_found = response.results
    (violation,) = unpacked(too_old.error)["BadRequest"].field_violations

    assert violation.field == "submissions[0].submission_id"
    assert (not_found.error.code, not_found.error.message) == (5, "no board of that name")


def test_a_rank_that_is_not_known_is_zero() -> None:
    """An answer without rank says 0."""
    result = SubmitResult(recorded(decoded()), indexed=False)
    answer = encode_submit_result(result, "token")

    assert (answer.entry.rank, answer.entry.rank_high, answer.indexed) == (0, 0, False)


def test_full_entries() -> None:
    """What only PostgreSQL knows is shown where the standing carries it."""
    full = Standing(1, 2, 3, 4, submission_count=5, update_time_ms=6007, metadata='{"a":[1]}')
    entry = types_pb2.Entry()
    put_standing(entry, full)

    assert (entry.submission_count, entry.update_time.ToMilliseconds()) == (5, 6007)
    assert entry.metadata["a"][0] == 1
    assert entry.achieve_time == types_pb2.Entry(achieve_time={"nanos": 4_000_000}).achieve_time
