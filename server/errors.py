"""Failures that belong to the listeners themselves; server/rpc/status.py maps them too."""

from __future__ import annotations

from typing import ClassVar

from core.errors import StandingsError, Unavailable


class UnknownComponent(StandingsError):
    """Health was asked of something that is not part of this server."""

    reason = "UNKNOWN_COMPONENT"

    def __init__(self) -> None:
        super().__init__("no component of that name")


class TooManyCalls(StandingsError):
    """More calls are in progress in this worker than it will hold; come back later."""

    reason = "TOO_MANY_CALLS"
    retry_after_ms: ClassVar[int] = 200

    def __init__(self, description: str = "too many calls are in progress") -> None:
        super().__init__(description)


class RateLimited(StandingsError):
    """The caller has asked for more than it may in this time; come back later."""

    reason = "RATE_LIMITED"

    def __init__(self, *, retry_after_ms: int) -> None:
        super().__init__("the caller asks for more than its rate")
        self.retry_after_ms = retry_after_ms


class NotRead(Unavailable):
    """The caller left the messages of a stream unread for too long."""

    reason = "NOT_READ"

    def __init__(self) -> None:
        super().__init__("the answers of this stream were not read in time")


class Unauthenticated(StandingsError):
    """The caller brought no evidence of who it is, or none that holds. Which of the many reasons it
    was is told to nobody but the log.
    """

    reason = "UNAUTHENTICATED"

    def __init__(self, why: str) -> None:
        super().__init__("the caller is not known here: no certificate or token that holds")
        self.why = why
        """For the log."""


class PermissionDenied(StandingsError):
    """The caller is known, and may not do this."""

    reason = "PERMISSION_DENIED"

    def __init__(self, description: str = "the caller's roles do not permit this method") -> None:
        super().__init__(description)


class UnknownBreaker(StandingsError):
    """No breaker of that name; of those that may be meant here."""

    reason = "UNKNOWN_BREAKER"

    def __init__(self) -> None:
        super().__init__("no breaker of that name")


class FaultsDisabled(StandingsError):
    """The server was started without the permission to inject faults."""

    reason = "FAULTS_DISABLED"

    def __init__(self) -> None:
        super().__init__("this server was not started with faults enabled")


class LeversBusy(Unavailable):
    """The file of the machine cannot be written: a frozen process holds it."""

    reason = "LEVERS_BUSY"

    def __init__(self) -> None:
        super().__init__("another process of this machine holds the levers")
