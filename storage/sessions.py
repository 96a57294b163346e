"""What every session of a pool is set to, and how it comes to be so behind a transaction pooler.

Such a pooler hands a connection of its own to each transaction and keeps no setting of a client's
session, so there each use has a database entry of its own, whose `connect_query` sets the same
(decision 0016).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from storage.settings import PostgresSettings

_IN_FORCE: Final = """
select lower(name), setting from pg_settings where lower(name) = any(%s)
"""


class PoolUse(Enum):
    """What a pool is for; each use has connections of its own, so that none starves another."""

    WRITE = "write"
    READ = "read"
    JOBS = "jobs"


def session_settings(settings: PostgresSettings, use: PoolUse) -> Mapping[str, str]:
    """PostgreSQL's settings by name, for all sessions of a use."""
    common = {
        "lock_timeout": str(settings.lock_timeout_ms),
        # Compiling costs more than any of our statements takes.
        "jit": "off",
        "idle_in_transaction_session_timeout": "2000",
        "timezone": "UTC",
    }
    match use:
        case PoolUse.WRITE:
            # The ledger's statement is always the same, and planning it costs as much as running
            # it. A generic plan takes its arrays for ten rows and would join 500 with 500 by
            # nested loops: three quarters of its time. It may also have been made while a table
            # was small, and would read the whole of it for each row once it is not.
            planner = {
                "plan_cache_mode": "force_generic_plan",
                "enable_nestloop": "off",
                "enable_seqscan": "off",
            }
            return {"statement_timeout": str(settings.write_timeout_ms), **common, **planner}
        case PoolUse.READ:
            planner = {"plan_cache_mode": "force_generic_plan"}
            return {"statement_timeout": str(settings.read_timeout_ms), **common, **planner}
        case PoolUse.JOBS:
            return {"statement_timeout": str(settings.jobs_timeout_ms), **common}


def session_arguments(settings: PostgresSettings, dsn: str, use: PoolUse) -> Mapping[str, Any]:
    """What `connect` needs so that a session of `use` is set as it should be: arguments that win
    over those of `dsn`.
    """
    if settings.transaction_pooler and dsn == _secret(settings.dsn):
        # A pooler refuses `options`, or drops them without a word.
        return {"dbname": pooled_database(dsn, use)}
    chosen = session_settings(settings, use).items()
    return {"options": " ".join(f"-c {name}={value}" for name, value in chosen)}


def _secret(dsn: SecretStr | None) -> str:
    return "" if dsn is None else dsn.get_secret_value()


def pooled_database(dsn: str, use: PoolUse) -> str:
    """The pooler's entry for a use: the name of `dsn` and that of the use."""
    return f"{conninfo_to_dict(dsn).get('dbname')}_{use.value}"


def pooled_dsn(dsn: str, use: PoolUse) -> str:
    """`dsn`, at the pooler's entry for a use."""
    return make_conninfo(dsn, dbname=pooled_database(dsn, use))


def connect_query(settings: PostgresSettings, use: PoolUse) -> str:
    """The `connect_query` of the pooler's entry for a use, as PgBouncer's configuration has it."""
    chosen = session_settings(settings, use).items()
    return "; ".join(f"set {name} = {value}" for name, value in chosen)


async def settings_in_force(
    settings: PostgresSettings, use: PoolUse, *, connect_timeout_s: int
) -> Mapping[str, str]:
    """The same names as `session_settings`, with what holds for a session behind the pooler.

    One session is looked at; others of its entry may be older than its configuration. Raises
    psycopg.Error.
    """
    dsn = _secret(settings.dsn)
    async with await psycopg.AsyncConnection.connect(
        pooled_dsn(dsn, use), autocommit=True, connect_timeout=connect_timeout_s
    ) as connection:
        names = list(session_settings(settings, use))
        cursor = await connection.execute(_IN_FORCE, (names,))
        return dict(await cursor.fetchall())
