"""What the listeners of a worker measure, and a supervisor of its workers. No label names a user
or a board: their number has no bounds.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)
_AGES: Final = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)

CALLS: Final = Counter("standings_calls", "Calls that have ended.", ["method", "code"])
CALL_SECONDS: Final = Histogram(
    "standings_call_seconds",
    "How long calls took; streams are left out.",
    ["method"],
    buckets=_SECONDS,
)
IN_FLIGHT: Final = Gauge(
    "standings_calls_in_flight", "Calls in progress, streams too.", multiprocess_mode="livesum"
)
TASKS: Final = Gauge(
    "standings_tasks", "Tasks of the workers' event loops.", multiprocess_mode="livesum"
)
REFUSED: Final = Counter("standings_calls_refused", "Calls refused for want of room.", ["reason"])
LIMITED: Final = Counter(
    "standings_limited_calls",
    "Calls refused because their caller had its share; for long: too low a rate, or a flood.",
    ["role", "kind", "reason"],
)
LIMIT_HELD_SECONDS: Final = Counter(
    "standings_limit_held_seconds",
    "For how long streams of submissions were not read, because their caller had its share.",
    ["role"],
)
READS: Final = Counter(
    "standings_reads", "Reads by where they were answered.", ["method", "source"]
)
STALE_SECONDS: Final = Histogram(
    "standings_stale_seconds", "How old the answers were that admit an age.", buckets=_AGES
)
OVERRIDES: Final = Gauge(
    "standings_breaker_override",
    "1 where an operator decides over a breaker; for long, and it protects nothing.",
    ["name", "mode"],
    multiprocess_mode="livemax",
)
OVERRIDE_LAG: Final = Gauge(
    "standings_override_version_lag",
    "Changes by operators that a worker of the machine does not act on yet; for long: frozen.",
    multiprocess_mode="livemax",
)
FAULTS: Final = Gauge(
    "standings_fault_injected",
    "1 where calls fail on purpose.",
    ["target", "kind"],
    multiprocess_mode="livemax",
)

AUDIT_UNSHIPPED: Final = Gauge(
    "standings_audit_unshipped_lines",
    "Lines of the machine's audit that PostgreSQL lacks; for long: they are on one disk alone.",
    multiprocess_mode="livemax",
)
AUDIT_BROKEN: Final = Gauge(
    "standings_audit_broken",
    "1 where the machine's audit does not go on from what PostgreSQL has: somebody changed one.",
    multiprocess_mode="livemax",
)
AUDIT_REFUSED: Final = Counter(
    "standings_audit_refused", "Calls refused because they could not be recorded.", ["method"]
)

WORKER_ENDS: Final = Counter(
    "standings_worker_ends",
    "Workers that have ended: died, frozen, replaced.",
    ["why"],
    registry=None,
)
WORKER_MEMORY: Final = Gauge(
    "standings_worker_memory_bytes", "What each worker holds.", ["slot"], registry=None
)

IDENTITY_RELOAD_FAILURES: Final = Counter(
    "standings_identity_reload_failures",
    "Changed files of certificates or keys that cannot be used; those before are.",
    ["what"],
)
TLS_EXPIRES: Final = Gauge(
    "standings_tls_certificate_expire_timestamp_seconds",
    "When the server's certificate ends.",
    multiprocess_mode="livemin",
)
