"""How every failure is told to a caller: one table, and the details beside the code."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from core import errors
from server.errors import (
    FaultsDisabled,
    PermissionDenied,
    RateLimited,
    TooManyCalls,
    Unauthenticated,
    UnknownBreaker,
    UnknownComponent,
)

DOMAIN: Final = "standings"
INTERNAL_TEXT: Final = "internal error"
"""All that a caller is told of a bug, besides the request id."""
PUSHBACK_TRAILER: Final = "grpc-retry-pushback-ms"
DETAILS_TRAILER: Final = "grpc-status-details-bin"


class Rule(NamedTuple):
    """The code that callers see, and the level at which the call is logged."""

    code: StatusCode
    level: int


_INTERNAL: Final = Rule(StatusCode.INTERNAL, logging.ERROR)
_RULES: Final[Mapping[type[BaseException], Rule]] = {
    errors.InvalidInput: Rule(StatusCode.INVALID_ARGUMENT, logging.DEBUG),
    errors.BoardNotFound: Rule(StatusCode.NOT_FOUND, logging.DEBUG),
    errors.SeasonNotFound: Rule(StatusCode.NOT_FOUND, logging.DEBUG),
    errors.EntryNotFound: Rule(StatusCode.NOT_FOUND, logging.DEBUG),
    errors.OperationNotFound: Rule(StatusCode.NOT_FOUND, logging.DEBUG),
    UnknownComponent: Rule(StatusCode.NOT_FOUND, logging.DEBUG),
    UnknownBreaker: Rule(StatusCode.NOT_FOUND, logging.DEBUG),
    # Warnings, of which the log samples: who knocks at doors shows, and floods nothing.
    Unauthenticated: Rule(StatusCode.UNAUTHENTICATED, logging.WARNING),
    PermissionDenied: Rule(StatusCode.PERMISSION_DENIED, logging.WARNING),
    errors.ClientWritesRefused: Rule(StatusCode.PERMISSION_DENIED, logging.INFO),
    errors.BoardExists: Rule(StatusCode.ALREADY_EXISTS, logging.INFO),
    errors.SubmissionIdReused: Rule(StatusCode.ALREADY_EXISTS, logging.INFO),
    errors.EtagMismatch: Rule(StatusCode.ABORTED, logging.INFO),
    errors.WriteConflict: Rule(StatusCode.ABORTED, logging.INFO),
    errors.SeasonNotOpen: Rule(StatusCode.FAILED_PRECONDITION, logging.DEBUG),
    errors.UserBeingDeleted: Rule(StatusCode.FAILED_PRECONDITION, logging.INFO),
    FaultsDisabled: Rule(StatusCode.FAILED_PRECONDITION, logging.INFO),
    errors.TooManyWatches: Rule(StatusCode.RESOURCE_EXHAUSTED, logging.INFO),
    errors.QueueFull: Rule(StatusCode.RESOURCE_EXHAUSTED, logging.WARNING),
    RateLimited: Rule(StatusCode.RESOURCE_EXHAUSTED, logging.WARNING),
    TooManyCalls: Rule(StatusCode.RESOURCE_EXHAUSTED, logging.WARNING),
    errors.Unavailable: Rule(StatusCode.UNAVAILABLE, logging.WARNING),
    errors.Draining: Rule(StatusCode.UNAVAILABLE, logging.INFO),
    errors.DeadlineSpent: Rule(StatusCode.DEADLINE_EXCEEDED, logging.INFO),
}


@dataclass(frozen=True, slots=True)
class RpcFailure:
    """A failed call, ready to be sent.

    `details` is a serialized google.rpc.Status, for the trailer grpc-status-details-bin;
    `trailers` are the others. `level` and `error` are for the access log only.
    """

    code: StatusCode
    message: str
    details: bytes
    trailers: tuple[tuple[str, str], ...]
    level: int
    error: Exception = field(repr=False)


def rule_of(error: BaseException) -> Rule:
    """The rule of the nearest class in the table; INTERNAL when there is none."""
    return _rule_of_class(type(error))


def later_status(reason: str, message: str) -> Status:
    """A failure as google.rpc.Status of which only reason and text were kept."""
    class_ = next((one for one in _failures() if one.reason == reason), errors.StandingsError)
    code: int = _rule_of_class(class_).code.value[0]
    info = ErrorInfo(reason=reason, domain=DOMAIN)
    return Status(code=code, message=message, details=[_packed(info)])


def _failures(
    root: type[errors.StandingsError] = errors.StandingsError,
) -> Iterator[type[errors.StandingsError]]:
    """Every class of failure, with those that it stands for after it."""
    yield root
    for class_ in root.__subclasses__():
        yield from _failures(class_)


def _rule_of_class(failed: type[BaseException]) -> Rule:
    for class_ in failed.__mro__:
        rule = _RULES.get(class_)
        if rule is not None:
            return rule
    return _INTERNAL


def failure_of(error: Exception, request_id: str) -> RpcFailure:
    """What is sent in place of an answer. A bug gives a fixed text and the request id, no more."""
    rule = rule_of(error)
    status = to_status_proto(error, request_id=request_id)
    retry_after_ms = _retry_after_ms(error)
    trailers = () if retry_after_ms is None else ((PUSHBACK_TRAILER, str(retry_after_ms)),)
    return RpcFailure(
        code=rule.code,
        message=status.message,
        details=status.SerializeToString(),
        trailers=trailers,
        level=rule.level,
        error=error,
    )


def to_status_proto(error: Exception, *, within: str = "", request_id: str = "") -> Status:
    """A failure as google.rpc.Status; `within` is put before the field of a bad input, such as
    "submissions[3]." for an item of a batch.
    """
    rule = rule_of(error)
    code: int = rule.code.value[0]
    if rule is _INTERNAL or not isinstance(error, errors.StandingsError):
        info = ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"request_id": request_id})
        return Status(code=code, message=INTERNAL_TEXT, details=[_packed(info)])
    info = ErrorInfo(reason=error.reason, domain=DOMAIN)
    details: list[Message] = [info]
    message = str(error)
    if isinstance(error, errors.InvalidInput):
        path = within + error.field
        message = f"{path}: {error.description}"
        violation = BadRequest.FieldViolation(field=path, description=error.description)
        details.append(BadRequest(field_violations=[violation]))
    if isinstance(error, errors.SubmissionIdTooOld | errors.SubmissionIdInFuture):
        info.metadata["server_time_ms"] = str(error.server_time_ms)
    retry_after_ms = _retry_after_ms(error)
    if retry_after_ms is not None:
        delay = Duration()
        delay.FromMilliseconds(retry_after_ms)
        details.append(RetryInfo(retry_delay=delay))
    return Status(code=code, message=message, details=[_packed(detail) for detail in details])


def _retry_after_ms(error: Exception) -> int | None:
    """After how long the call may be tried again; None where trying again helps nobody."""
    if isinstance(
        error,
        errors.Unavailable | errors.QueueFull | errors.TooManyWatches | RateLimited | TooManyCalls,
    ):
        return error.retry_after_ms
    return None


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
