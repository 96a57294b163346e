"""What an operator decides about PostgreSQL."""

import ipaddress
import json
import re
from datetime import timedelta
from typing import Self

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator


class PostgresSettings(BaseModel):
    """Connections, time limits and the window of submission ids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dsn: SecretStr | None = None
    """A libpq connection string; None: the embedded server."""
    direct_dsn: SecretStr | None = None
    """The same server without a transaction pooler between, for session locks; None: `dsn`."""
    transaction_pooler: bool = False
    """Whether `dsn` leads to PgBouncer in transaction mode, 1.22 or later. Its database entries are
    then asked for by use: <database>_write, _read and _jobs; `direct_dsn` is needed, too. Replicas
    are reached past it."""
    replica_dsns: tuple[SecretStr, ...] = Field(default=(), max_length=8)
    """Streaming standbys of `dsn`, which take reads that may be old: connection strings with commas
    between them, or as a list of JSON where one has a comma in itself."""
    replica_lag_ms_max: int = Field(default=5_000, ge=100, le=600_000)
    """How far behind a replica may be and still be asked before the primary."""
    replica_alone_s_max: float = Field(default=300.0, ge=0, le=900)
    """How old what a replica says may be while the primary does not answer. 0: it is not asked."""
    write_pool_size: int = Field(default=4, ge=2, le=64)
    read_pool_size: int = Field(default=4, ge=1, le=64)
    jobs_pool_size: int = Field(default=4, ge=2, le=64)
    """For the healer, builds and retention."""
    pool_timeout_s: float = Field(default=0.5, gt=0, le=30)
    """How long a call waits for a connection."""
    connect_timeout_s: int = Field(default=3, ge=1, le=60)
    write_timeout_ms: int = Field(default=800, ge=50, le=60_000)
    """PostgreSQL ends a longer writing statement."""
    read_timeout_ms: int = Field(default=300, ge=50, le=60_000)
    jobs_timeout_ms: int = Field(default=30_000, ge=1000, le=600_000)
    lock_timeout_ms: int = Field(default=200, ge=10, le=60_000)
    """How long a write waits for one row lock."""
    submission_window: timedelta = Field(default=timedelta(days=7), ge=timedelta(hours=1))
    """How old a submission id may be and still be told from a new one."""
    submission_ahead: timedelta = Field(default=timedelta(hours=24), le=timedelta(hours=36))
    """How far ahead of the database's clock a submission id may be."""

    @field_validator("replica_dsns", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if not value.lstrip().startswith("["):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        try:
            return tuple(json.loads(value))
        except ValueError:
            # Its text would quote the list, passwords and all.
            raise ValueError("not a list of JSON") from None

    @field_validator("dsn", "direct_dsn")
    @classmethod
    def _is_a_connection_string(cls, dsn: SecretStr | None) -> SecretStr | None:
        """Refuses here what the driver would quote, password and all, when it cannot read it."""
        if dsn is not None and not _readable(dsn.get_secret_value()):
            raise ValueError("not a connection string; does the password need %-encoding?")
        return dsn

    @field_validator("replica_dsns")
    @classmethod
    def _are_connection_strings(cls, dsns: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for dsn in dsns:
            cls._is_a_connection_string(dsn)
        return dsns

    @model_validator(mode="after")
    def _has_a_way_past_the_pooler(self) -> Self:
        """A pooler keeps no session, and the jobs and migrations hold a lock in one."""
        if not self.transaction_pooler:
            return self
        if self.dsn is None or not conninfo_to_dict(self.dsn.get_secret_value()).get("dbname"):
            raise ValueError("transaction_pooler needs a dsn that names a database")
        if self.direct_dsn is None:
            raise ValueError("transaction_pooler needs a direct_dsn, for locks of a session")
        return self


def _readable(dsn: str) -> bool:
    try:
        parts = conninfo_to_dict(dsn)
    except ProgrammingError:
        return False
    # An unencoded / or @ in a password moves its rest into one of these.
    hosts = str(parts.get("host", "")).split(",")
    ports = str(parts.get("port", "")).split(",")
    database = str(parts.get("dbname", ""))
    return (
        all(map(_is_host, hosts))
        and all(not port.strip() or port.strip().isdigit() for port in ports)
        and not ("://" in dsn and "@" in database)
    )


def _is_host(host: str) -> bool:
    """A name, a socket's folder (or abstract name), or an address of either family."""
    if host.startswith(("/", "@")) or re.fullmatch(r"[A-Za-z0-9._-]*", host):
        return True
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
