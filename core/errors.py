"""Every way a request can fail, one class each.

    StandingsError
    |- InvalidInput                 a field is not what the contract allows
    |  |- PageTokenInvalid          the page token is not one of ours, or of another question
    |  |- ConsistencyTokenInvalid   likewise, the consistency token
    |  |- SubmissionIdTooOld        the id is older than ids are kept
    |  `- SubmissionIdInFuture      the id is ahead of the database's clock
    |- BoardNotFound
    |- SeasonNotFound
    |- EntryNotFound
    |- BoardExists
    |- SubmissionIdReused           the same id came with other content
    |- EtagMismatch                 somebody changed the board in between
    |- ClientWritesRefused          players may not submit to this board, or not in this way
    |- SeasonNotOpen                no season of the board takes submissions now
    |- UserBeingDeleted             the user's deletion is under way
    |- QueueFull                    more submissions wait than the worker will hold
    |- TooManyWatches               more boards are followed than the worker, or one caller, may
    |- Unavailable                  a store cannot answer now; the call may be retried
    |  |- LedgerUnavailable
    |  |- ShardsMissing             part of the index cannot answer; the error says which shards
    |  |  |- IndexUnavailable
    |  |  |- IndexUnbuilt           it does not hold this season yet
    |  |  `- ReadBehind             it does not show the caller's own write yet
    |  |- AuditUnavailable          the audit cannot be written, or not be read; nothing was done
    |  |  `- AuditBroken            its lines are not what they were
    |  |- Staleness                 no answer is as fresh as the caller wants it
    |  `- Draining                  this worker is going away
    |- WriteConflict                the database refused the write for another's sake
    |  `- BoardChanged              the board's definition changed on the way
    `- DeadlineSpent                the caller's deadline passed

Adapters raise these `from` the driver's error; messages are written for callers and never carry
SQL, hosts or secrets. server/rpc/status.py maps each class to a gRPC status, once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class StandingsError(Exception):
    """The root: something a caller can be told."""

    reason: ClassVar[str] = "INTERNAL"


class InvalidInput(StandingsError):
    """A field of the request is not what the contract allows; nothing was touched."""

    reason = "INVALID_INPUT"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class PageTokenInvalid(InvalidInput):
    """The page token was not issued by us, or belongs to another question."""

    reason = "PAGE_TOKEN_INVALID"

    def __init__(self) -> None:
        super().__init__("page_token", "not a token of this list")


class ConsistencyTokenInvalid(InvalidInput):
    """The consistency token was not issued by us, or belongs to another board."""

    reason = "CONSISTENCY_TOKEN_INVALID"

    def __init__(self) -> None:
        super().__init__("options.consistency_token", "not a token of this board")


class SubmissionIdTooOld(InvalidInput):
    """The submission id was made before the window in which ids are kept."""

    reason = "SUBMISSION_ID_TOO_OLD"

    def __init__(self, server_time_ms: int) -> None:
        super().__init__("submission_id", "made too long ago to be told from a new one")
        self.server_time_ms = server_time_ms


class SubmissionIdInFuture(InvalidInput):
    """The submission id claims a time ahead of the database's clock."""

    reason = "SUBMISSION_ID_IN_FUTURE"

    def __init__(self, server_time_ms: int) -> None:
        super().__init__("submission_id", "made too far in the future; check the caller's clock")
        self.server_time_ms = server_time_ms


class BoardNotFound(StandingsError):
    """No board of that name."""

    reason = "BOARD_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("no board of that name")


class SeasonNotFound(StandingsError):
    """The board has no season of that name."""

    reason = "SEASON_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("the board has no season of that name")


class OperationNotFound(StandingsError):
    """No operation of that name on this machine."""

    reason = "OPERATION_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("this machine knows no operation of that name")


class EntryNotFound(StandingsError):
    """The user has no entry in that season."""

    reason = "ENTRY_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("the user has no entry in this season")


class BoardExists(StandingsError):
    """A board of that name exists already."""

    reason = "BOARD_EXISTS"

    def __init__(self) -> None:
        super().__init__("a board of that name exists already")


class SubmissionIdReused(StandingsError):
    """The submission id was recorded before, with other content."""

    reason = "SUBMISSION_ID_REUSED"

    def __init__(self) -> None:
        super().__init__("this submission id was recorded before with other content")


class EtagMismatch(StandingsError):
    """The board changed since the caller read it."""

    reason = "ETAG_MISMATCH"

    def __init__(self) -> None:
        super().__init__("the board changed since that etag was read")


class ClientWritesRefused(StandingsError):
    """Players may not submit to this board, or not in this way; the servers of its game may."""

    reason = "CLIENT_WRITES_REFUSED"

    def __init__(self, description: str = "this board takes no submissions of players") -> None:
        super().__init__(description)


class SeasonNotOpen(StandingsError):
    """No season of the board takes submissions now."""

    reason = "SEASON_NOT_OPEN"

    def __init__(self) -> None:
        super().__init__("no season of this board takes submissions now")


class UserBeingDeleted(StandingsError):
    """The user's deletion is under way; submissions are taken again when it is done."""

    reason = "USER_BEING_DELETED"

    def __init__(self) -> None:
        super().__init__("the user is being deleted; no submissions are taken until that is done")


class TooManyWatches(StandingsError):
    """A limit on watches is reached; `limit` says which, and how many it allows."""

    reason = "TOO_MANY_WATCHES"
    retry_after_ms: ClassVar[int] = 5_000

    def __init__(self, limit: str) -> None:
        super().__init__(f"too many watches: {limit}")


class QueueFull(StandingsError):
    """More submissions wait in this worker than it will hold; come back later."""

    reason = "QUEUE_FULL"
    retry_after_ms: ClassVar[int] = 200

    def __init__(self) -> None:
        super().__init__("too many submissions are waiting")


class Unavailable(StandingsError):
    """A store cannot answer now; the call may be retried."""

    reason = "UNAVAILABLE"
    retry_after_ms: int = 100


class LedgerUnavailable(Unavailable):
    """PostgreSQL cannot answer now; whether a write took effect is unknown until it is retried."""

    reason = "LEDGER_UNAVAILABLE"

    def __init__(self, *, retry_after_ms: int | None = None) -> None:
        super().__init__("the ledger cannot answer now")
        if retry_after_ms is not None:
            self.retry_after_ms = retry_after_ms


class ShardsMissing(Unavailable):
    """Some shards cannot answer a read; `shards` says which, or is empty where nobody knows."""

    text: ClassVar[str] = "part of the index cannot answer now"

    def __init__(self, shards: Iterable[int] = (), *, retry_after_ms: int | None = None) -> None:
        super().__init__(self.text)
        self.shards = frozenset(shards)
        if retry_after_ms is not None:
            self.retry_after_ms = retry_after_ms


class IndexUnavailable(ShardsMissing):
    """Shards of the index cannot answer now."""

    reason = "INDEX_UNAVAILABLE"


class IndexUnbuilt(ShardsMissing):
    """The index does not hold this season yet; it is being built."""

    reason = "INDEX_UNBUILT"
    text = "the index of this season is being built"


class ReadBehind(ShardsMissing):
    """The index does not show the write of the caller's consistency token yet."""

    reason = "READ_BEHIND"
    text = "the write of the consistency token is not visible yet"


class AuditUnavailable(Unavailable):
    """What has to be recorded cannot be, or what was recorded cannot be read; nothing was done."""

    reason = "AUDIT_UNAVAILABLE"
    retry_after_ms: int = 1_000

    def __init__(self) -> None:
        super().__init__("the audit of this server cannot be used now; nothing was done")


class AuditBroken(AuditUnavailable):
    """The audit of this machine is not what was written: somebody has to look at it first."""

    reason = "AUDIT_BROKEN"


class Staleness(Unavailable):
    """No answer that is at hand is as fresh as the caller wants it."""

    reason = "STALENESS"

    def __init__(self) -> None:
        super().__init__("no answer within max_staleness can be given now")


class Draining(Unavailable):
    """The worker is going away; another one will answer."""

    reason = "DRAINING"

    def __init__(self) -> None:
        super().__init__("this server is going away")


class WriteConflict(StandingsError):
    """The database refused the write for another's sake; the whole call may be retried."""

    reason = "WRITE_CONFLICT"

    def __init__(self) -> None:
        super().__init__("the write met another one; try again")


class BoardChanged(WriteConflict):
    """The board's definition changed on the way; it has to be looked up again."""

    reason = "BOARD_CHANGED"


class DeadlineSpent(StandingsError):
    """The caller's deadline passed before there was an answer."""

    reason = "DEADLINE_SPENT"

    def __init__(self) -> None:
        super().__init__("the deadline passed")
