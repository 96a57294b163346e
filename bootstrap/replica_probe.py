"""Looks at the configured replicas of PostgreSQL: whether they are any, and how they follow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from bootstrap.probe import Report, probe_server
from storage.guarding import replica_breakers
from storage.pool import Connection
from storage.positions import Position, position_of

_FOLLOWED_S: Final = 2.0
"""What the primary had on disk has to be replayed after so long."""
_STEP_S: Final = 0.1


async def probe_replicas(primary_dsn: str, dsns: Sequence[str]) -> Sequence[Report]:
    """A report for each, named as its breaker."""
    primary = await _primary_position(primary_dsn)
    return [
        await probe_server(
            dsn,
            f"PostgreSQL {name.rpartition('/')[2]}",
            "STANDINGS_POSTGRES_REPLICA_DSNS",
            partial(_look_at_replica, primary),
        )
        for name, dsn in zip(replica_breakers(len(dsns)), dsns, strict=True)
    ]


async def _primary_position(dsn: str) -> Position | None:
    """Where the primary is; None where it does not say, which its own report tells."""
    seen: list[Position] = []

    async def look(connection: Connection, _report: Report) -> None:
        seen.append(await position_of(connection))

    await probe_server(dsn, "PostgreSQL", "STANDINGS_POSTGRES_DSN", look)
    return seen[0] if seen else None


async def _look_at_replica(
    primary: Position | None, connection: Connection, report: Report
) -> None:
    position = await position_of(connection)
    if not position.standby:
        report.add(
            "no standby: it takes writes of its own",
            "name a streaming standby of STANDINGS_POSTGRES_DSN; one that was promoted has to be"
            " made anew",
        )
        return
    if primary is None:
        report.version += ", of a primary that is not to be seen"
        return
    for ours, theirs, what, remedy in zip(
        position.history,
        primary.history,
        ("database cluster", "database", "timeline"),
        (
            "name a standby of STANDINGS_POSTGRES_DSN",
            "name the same database as in STANDINGS_POSTGRES_DSN",
            "it has not followed the last promotion, or not been restarted since; see its log",
        ),
        strict=True,
    ):
        if ours != theirs:
            report.add(f"of another {what} than the primary", remedy)
            return
    await _wait_for(primary, connection, report)


async def _wait_for(primary: Position, connection: Connection, report: Report) -> None:
    """Notes how long it takes to replay what the primary had, or that it takes too long."""
    began_s = time.monotonic()
    while (behind := primary.lsn - (await position_of(connection)).lsn) > 0:
        if time.monotonic() - began_s > _FOLLOWED_S:
            report.add(
                f"behind by {behind:,} bytes of log, and not there after {_FOLLOWED_S:.0f} s",
                "see pg_stat_replication on the primary, and whether replay is paused there or"
                " waits for a long query",
            )
            return
        await asyncio.sleep(_STEP_S)
    report.version += f", follows within {time.monotonic() - began_s:.1f} s"
