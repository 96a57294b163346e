"""What operators set on breakers, told to the other machines of a fleet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from resilience.deadline import within
from resilience.fleet import FleetOverride
from resilience.overrides import Mode
from storage.connecting import LedgerConnection
from storage.pool import KEEPALIVES, Connection, execute, translated
from storage.statement import Statement

_TIMEOUT_S: Final = 2.0
"""For all of it; the machines do well without."""

_READ: Final = Statement.of("""
select name, mode,
       least(extract(epoch from expire_time - clock_timestamp()) * 1000, 1e9)::bigint,
       set_time_ms, machine, reason, actor
from breaker_overrides
""")
_WRITE: Final = Statement.of("""
insert into breaker_overrides as stored
  (name, mode, expire_time, set_time_ms, machine, reason, actor)
select name, mode, clock_timestamp() + left_ms * interval '1 ms', set_time_ms, machine, reason,
       actor
from unnest(%(name)s::text[], %(mode)s::smallint[], %(left_ms)s::bigint[],
            %(set_time_ms)s::bigint[], %(machine)s::bigint[], %(reason)s::text[],
            %(actor)s::text[])
  as ours(name, mode, left_ms, set_time_ms, machine, reason, actor)
order by name
on conflict (name) do update
set mode = excluded.mode, expire_time = excluded.expire_time,
    set_time_ms = excluded.set_time_ms, machine = excluded.machine, reason = excluded.reason,
    actor = excluded.actor
where (excluded.set_time_ms, excluded.machine) > (stored.set_time_ms, stored.machine)
""")


class PostgresBreakerOverrides:
    """The `FleetOverrides` port on PostgreSQL.

    Each exchange has a connection of its own: the pools are behind the very breakers that this is
    about, and one machine asks once in two seconds.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def exchange(self, ours: Sequence[FleetOverride]) -> Sequence[FleetOverride]:
        """See `FleetOverrides.exchange`. Raises LedgerUnavailable, WriteConflict."""
        with translated():
            return await within(_TIMEOUT_S, self._exchange(ours))

    async def _exchange(self, ours: Sequence[FleetOverride]) -> Sequence[FleetOverride]:
        connection = await LedgerConnection.connect(
            self._dsn,
            autocommit=True,
            connect_timeout=2,
            application_name="standings-fleet",
            options="-c statement_timeout=1000 -c lock_timeout=500 -c timezone=UTC",
            **KEEPALIVES,
        )
        async with connection:
            theirs = await _stored(connection)
            newer = [
                override
                for override in ours
                if _precedence(override) > _precedence(theirs.get(override.name))
            ]
            if newer:
                await execute(connection, _WRITE, _columns(newer))
                theirs = await _stored(connection)
            return list(theirs.values())


async def _stored(connection: Connection) -> dict[str, FleetOverride]:
    rows = await execute(connection, _READ, {})
    return {row[0]: FleetOverride(row[0], Mode(row[1]), *row[2:]) for row in rows}


def _precedence(override: FleetOverride | None) -> tuple[int, int]:
    return (-1, -1) if override is None else (override.set_time_ms, override.machine)


def _columns(overrides: Sequence[FleetOverride]) -> dict[str, list[str] | list[int]]:
    return {
        "name": [override.name for override in overrides],
        "mode": [int(override.mode) for override in overrides],
        "left_ms": [override.left_ms for override in overrides],
        "set_time_ms": [override.set_time_ms for override in overrides],
        "machine": [override.machine for override in overrides],
        "reason": [override.reason for override in overrides],
        "actor": [override.actor for override in overrides],
    }
