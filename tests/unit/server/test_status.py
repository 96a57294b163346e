"""How failures are told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.rpc import status_pb2
from grpc import StatusCode

from core import errors
from core.errors import InvalidInput, StandingsError
from server.errors import TooManyCalls, UnknownComponent
from server.rpc.status import failure_of, rule_of, to_status_proto
from tests.unit.server.fakes import unpacked


def _subclasses(class_: type[StandingsError]) -> Iterator[type[StandingsError]]:
    for child in class_.__subclasses__():
        yield child
        yield from _subclasses(child)


@pytest.mark.parametrize(
    "class_",
    sorted(
        {c for c in _subclasses(StandingsError) if c.__module__.startswith(("core.", "server."))},
        key=lambda c: c.__name__,
    ),
)
def test_every_error_is_mapped(class_: type[StandingsError]) -> None:
    """No failure of ours is told as a bug, and each has a reason of its own."""
    error = class_.__new__(class_)

    assert rule_of(error).code is not StatusCode.INTERNAL
    assert class_.reason != StandingsError.reason


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("a", "b"), StatusCode.INVALID_ARGUMENT),
        (errors.PageTokenInvalid(), StatusCode.INVALID_ARGUMENT),
        (errors.ConsistencyTokenInvalid(), StatusCode.INVALID_ARGUMENT),
        (errors.SubmissionIdTooOld(5), StatusCode.INVALID_ARGUMENT),
        (errors.SubmissionIdInFuture(5), StatusCode.INVALID_ARGUMENT),
        (errors.BoardNotFound(), StatusCode.NOT_FOUND),
        (errors.SeasonNotFound(), StatusCode.NOT_FOUND),
        (errors.EntryNotFound(), StatusCode.NOT_FOUND),
        (UnknownComponent(), StatusCode.NOT_FOUND),
        (errors.BoardExists(), StatusCode.ALREADY_EXISTS),
        (errors.SubmissionIdReused(), StatusCode.ALREADY_EXISTS),
        (errors.EtagMismatch(), StatusCode.ABORTED),
        (errors.WriteConflict(), StatusCode.ABORTED),
        (errors.SeasonNotOpen(), StatusCode.FAILED_PRECONDITION),
        (errors.QueueFull(), StatusCode.RESOURCE_EXHAUSTED),
        (TooManyCalls(), StatusCode.RESOURCE_EXHAUSTED),
        (errors.LedgerUnavailable(), StatusCode.UNAVAILABLE),
        (errors.IndexUnavailable(), StatusCode.UNAVAILABLE),
        (errors.IndexUnbuilt(), StatusCode.UNAVAILABLE),
        (errors.ReadBehind(), StatusCode.UNAVAILABLE),
        (errors.Draining(), StatusCode.UNAVAILABLE),
        (errors.DeadlineSpent(), StatusCode.DEADLINE_EXCEEDED),
        (StandingsError("x"), StatusCode.INTERNAL),
        (ValueError("x"), StatusCode.INTERNAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
def test_codes(error: Exception, code: StatusCode) -> None:
    """Each failure has the code that the contract gives it, in the call and in a batch alike."""
    failure = failure_of(error, "id")

    assert (code, code.value[0]) == (failure.code, to_status_proto(error).code)


def test_info_names_reason_and_domain() -> None:
    """Callers tell failures apart by the reason."""
    info = unpacked(to_status_proto(errors.BoardNotFound()))["ErrorInfo"]

    assert (info.reason, info.domain) == ("BOARD_NOT_FOUND", "standings")


def test_bad_input_names_the_field() -> None:
    """The field comes with the place of its item in a batch."""
    status = to_status_proto(InvalidInput("user_id", "is bad"), within="submissions[3].")
    (violation,) = unpacked(status)["BadRequest"].field_violations

    assert (violation.field, violation.description) == ("submissions[3].user_id", "is bad")
    assert status.message == "submissions[3].user_id: is bad"


@pytest.mark.parametrize("class_", [errors.SubmissionIdTooOld, errors.SubmissionIdInFuture])
def test_refused_ids_come_with_the_time(class_: type[errors.SubmissionIdTooOld]) -> None:
    """A caller whose clock is wrong learns the right time."""
    info = unpacked(to_status_proto(class_(1_700_000_000_000)))["ErrorInfo"]

    assert info.metadata["server_time_ms"] == "1700000000000"


@pytest.mark.parametrize("error", [errors.QueueFull(), errors.IndexUnbuilt(), TooManyCalls()])
def test_passing_failures_say_when_to_come_back(error: StandingsError) -> None:
    """The delay stands in RetryInfo and in the trailer that gRPC clients obey."""
    failure = failure_of(error, "id")
    details = unpacked(status_pb2.Status.FromString(failure.details))

    assert details["RetryInfo"].retry_delay.ToMilliseconds() == error.retry_after_ms
    assert failure.trailers == (("grpc-retry-pushback-ms", str(error.retry_after_ms)),)


def test_other_failures_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked to repeat a call that cannot succeed."""
    failure = failure_of(errors.BoardNotFound(), "id")

    assert failure.trailers == ()
    assert "RetryInfo" not in unpacked(status_pb2.Status.FromString(failure.details))


def test_a_bug_tells_nothing_but_the_request_id() -> None:
    """The text of an unexpected exception stays inside."""
    failure = failure_of(RuntimeError("secret dsn"), "abc123")
    details = unpacked(status_pb2.Status.FromString(failure.details))

    assert failure.message == "internal error"
    assert b"secret" not in failure.details
    assert dict(details["ErrorInfo"].metadata) == {"request_id": "abc123"}
