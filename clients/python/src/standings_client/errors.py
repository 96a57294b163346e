"""Every way a call can fail, by code and then by reason.

StandingsError
|- InvalidArgument              `violations` name the fields
|  |- PageTokenInvalid
|  |- ConsistencyTokenInvalid
|  |- SubmissionIdTooOld
|  `- SubmissionIdInFuture
|- NotFound
|  |- BoardNotFound
|  |- SeasonNotFound
|  `- EntryNotFound
|- AlreadyExists
|  |- BoardExists
|  `- SubmissionIdReused
|- FailedPrecondition
|  |- SeasonNotOpen
|  `- UserBeingDeleted
|- Aborted
|  |- EtagMismatch
|  `- WriteConflict
|- ResourceExhausted
|  `- TooManyWatches
|- Unavailable
|  `- Staleness
|- Cancelled
|- DeadlineExceeded
|- PermissionDenied
|  `- ClientWritesRefused
|- Unauthenticated
|- Unimplemented
|- Internal
`- Unknown                      any other code
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from grpc import StatusCode


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request that is not what the contract allows."""

    field: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetails:
    """What the server said beside the message.

    `retry_after_s` is its wish in seconds, None where it has none; `retry_refused`: it asked not
    to be tried again. `request_id` finds the call in the server's logs; empty where not sent.
    """

    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[FieldViolation, ...] = ()
    request_id: str = ""
    retry_after_s: float | None = None
    retry_refused: bool = False


class StandingsError(Exception):
    """A call, or one item of it, failed. The classes below say how."""

    CODE: ClassVar[StatusCode] = StatusCode.UNKNOWN
    REASON: ClassVar[str] = ""

    def __init__(
        self, message: str, details: ErrorDetails | None = None, code: StatusCode | None = None
    ) -> None:
        super().__init__(message)
        details = details or ErrorDetails(reason=self.REASON)
        self.code = code or self.CODE
        self.message = message
        self.reason = details.reason
        self.metadata = details.metadata
        self.violations = details.violations
        self.request_id = details.request_id
        self.retry_after_s = details.retry_after_s
        self.retry_refused = details.retry_refused

    def __str__(self) -> str:
        said = f"{self.code.name} {self.reason}".rstrip()
        return f"{said}: {self.message}" + (
            f" (request {self.request_id})" if self.request_id else ""
        )


class InvalidArgument(StandingsError):
    """The request is not what the contract allows; nothing was touched."""

    CODE = StatusCode.INVALID_ARGUMENT


class PageTokenInvalid(InvalidArgument):
    """The page token is not one of the service's, or of another question."""

    REASON = "PAGE_TOKEN_INVALID"


class ConsistencyTokenInvalid(InvalidArgument):
    """The consistency token is not one of the service's, or of another board."""

    REASON = "CONSISTENCY_TOKEN_INVALID"


class SubmissionIdTooOld(InvalidArgument):
    """The id was made before the window in which ids are kept: whether it counted is not known.

    Never sent again under another id: that could count the event twice.
    """

    REASON = "SUBMISSION_ID_TOO_OLD"


class SubmissionIdInFuture(InvalidArgument):
    """The id claims a time ahead of the server's clock; it was not recorded."""

    REASON = "SUBMISSION_ID_IN_FUTURE"

    @property
    def server_time_ms(self) -> int | None:
        """The server's clock, in ms since the epoch; None where it was not sent."""
        told = self.metadata.get("server_time_ms", "")
        return int(told) if told.isascii() and told.isdigit() else None


class NotFound(StandingsError):
    """What the call names does not exist."""

    CODE = StatusCode.NOT_FOUND


class BoardNotFound(NotFound):
    """No board of that name."""

    REASON = "BOARD_NOT_FOUND"


class SeasonNotFound(NotFound):
    """The board has no season of that name."""

    REASON = "SEASON_NOT_FOUND"


class EntryNotFound(NotFound):
    """The user has no entry in that season."""

    REASON = "ENTRY_NOT_FOUND"


class AlreadyExists(StandingsError):
    """What the call would make exists already."""

    CODE = StatusCode.ALREADY_EXISTS


class BoardExists(AlreadyExists):
    """A board of that name exists already."""

    REASON = "BOARD_EXISTS"


class SubmissionIdReused(AlreadyExists):
    """The same id was recorded before with other content."""

    REASON = "SUBMISSION_ID_REUSED"


class FailedPrecondition(StandingsError):
    """The board is not in the state the call needs."""

    CODE = StatusCode.FAILED_PRECONDITION


class SeasonNotOpen(FailedPrecondition):
    """No season of the board takes submissions now."""

    REASON = "SEASON_NOT_OPEN"


class UserBeingDeleted(FailedPrecondition):
    """The user's deletion is under way; submissions are taken again when it is done."""

    REASON = "USER_BEING_DELETED"


class Aborted(StandingsError):
    """Somebody else's change came in between."""

    CODE = StatusCode.ABORTED


class EtagMismatch(Aborted):
    """The board changed since that etag was read: read it again, then decide."""

    REASON = "ETAG_MISMATCH"


class WriteConflict(Aborted):
    """The write met another one; the whole call may be repeated with the same id."""

    REASON = "WRITE_CONFLICT"


class ResourceExhausted(StandingsError):
    """The server holds back: too much is waiting, or a quota is used up."""

    CODE = StatusCode.RESOURCE_EXHAUSTED


class TooManyWatches(ResourceExhausted):
    """The server follows as many boards as it will, and watch_entries polls meanwhile; or the
    client does, and watch_entries raises it.
    """

    REASON = "TOO_MANY_WATCHES"


class Unavailable(StandingsError):
    """The service cannot answer now; for a write, whether it counted is told by a retry."""

    CODE = StatusCode.UNAVAILABLE


class Staleness(Unavailable):
    """No answer within the read's `max_staleness` can be given now.

    Tried again like its parent: the board may have caught up by then, or another server have.
    """

    REASON = "STALENESS"


class Cancelled(StandingsError):
    """The server, or the closing of the client, ended the call."""

    CODE = StatusCode.CANCELLED


class DeadlineExceeded(StandingsError):
    """No answer within the call's time; for a write, whether it counted is not known."""

    CODE = StatusCode.DEADLINE_EXCEEDED


class PermissionDenied(StandingsError):
    """The caller may not do this."""

    CODE = StatusCode.PERMISSION_DENIED


class ClientWritesRefused(PermissionDenied):
    """The board takes no submissions of players themselves, or not in this way."""

    REASON = "CLIENT_WRITES_REFUSED"


class Unauthenticated(StandingsError):
    """The caller did not say who it is, or not believably."""

    CODE = StatusCode.UNAUTHENTICATED


class Unimplemented(StandingsError):
    """The server does not know this method: it may be older than the client."""

    CODE = StatusCode.UNIMPLEMENTED


class Internal(StandingsError):
    """A fault of the server; `request_id` finds it in its logs."""

    CODE = StatusCode.INTERNAL


class Unknown(StandingsError):
    """Any code that has no class of its own; `code` tells which."""


_BY_CODE: Final = {cls.CODE: cls for cls in StandingsError.__subclasses__()}
_BY_REASON: Final = {
    cls.REASON: cls for parent in _BY_CODE.values() for cls in parent.__subclasses__()
}


def error_of(code: StatusCode, message: str, details: ErrorDetails) -> StandingsError:
    """The exception for a status: by its reason, or by its code where the reason is not known."""
    by_code = _BY_CODE.get(code, Unknown)
    by_reason = _BY_REASON.get(details.reason, by_code)
    # A reason under another code is not the one this client knows.
    return (by_reason if issubclass(by_reason, by_code) else by_code)(message, details, code)
