"""What PostgreSQL's errors say of PostgreSQL, and when its breakers open."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Final

import psycopg
from psycopg_pool import TooManyRequests

from core.errors import StandingsError
from resilience.breaker import BreakerRules, Outcome

POSTGRES_BREAKERS: Final[Mapping[str, BreakerRules]] = {
    "postgres/write": BreakerRules(slow_s=0.4, losses_max=3),
    # Callers leave it little time, so that many of them give up at once where one would wait.
    "postgres/read": BreakerRules(slow_s=0.15, silence_s=0.3),
    # A chunk of a build may take seconds.
    "postgres/jobs": BreakerRules(slow_s=inf),
}
"""The breakers of a worker's pools, each named for its use."""


def replica_breakers(count: int) -> Mapping[str, BreakerRules]:
    """The breakers of so many replicas, in their order: postgres/replica-1, ..."""
    rules = POSTGRES_BREAKERS["postgres/read"]
    return {f"postgres/replica-{number}": rules for number in range(1, count + 1)}


_LOST: Final = ("08", "57P")
"""Connections that broke, and servers that are shut down, crash or start."""
_FAILED: Final = ("25006", "53", "57014", "58", "XX")
"""A standby in the primary's place; no room for more; out of time; broken disks and data."""


def judge(error: Exception) -> Outcome:
    """What an error of a pool's tells of the server."""
    if isinstance(error, StandingsError | TooManyRequests):
        # Its answer, which a caller was given by us; and our own limit.
        return Outcome.NEUTRAL
    if not isinstance(error, psycopg.Error):
        # Drivers let the wrong ones out when a connection breaks at a bad moment.
        return Outcome.FAILED
    sqlstate = error.sqlstate
    if sqlstate is None:
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return Outcome.LOST if lost else Outcome.NEUTRAL
    if sqlstate.startswith(_LOST):
        return Outcome.LOST
    return Outcome.FAILED if sqlstate.startswith(_FAILED) else Outcome.NEUTRAL
