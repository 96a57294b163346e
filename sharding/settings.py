"""What the index has to be told about its Redis Cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator

NodeAddress = Annotated[str, StringConstraints(pattern=r"^\S+:\d{1,5}$")]


class RedisSettings(BaseModel):
    """Where the cluster is, who we are to it, and how long we wait for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: tuple[NodeAddress, ...] = ()
    """Some nodes as host:port, or one text with commas; the others are learned from them. Empty:
    the embedded cluster."""
    username: str | None = None
    password: SecretStr | None = None
    admin_username: str | None = None
    """Who may load functions, where the user above may not."""
    admin_password: SecretStr | None = None
    tls: bool = False
    ca_file: Path | None = None
    """The authorities that may sign the nodes' certificates; None: those of the system."""
    operation_timeout_s: float = Field(default=0.5, gt=0, le=30)
    """How long one operation may take, redirects and second tries included."""
    read_timeout_s: float = Field(default=0.2, gt=0, le=30)
    """The same for reads: soon enough that something else can answer in a node's place."""
    connect_timeout_s: float = Field(default=1.0, gt=0, le=30)
    response_timeout_s: float = Field(default=0.25, gt=0, le=60)
    """A connection on which calls wait and nothing comes for longer is closed, and they all fail:
    that tells of a node that stands still before each of its shards is found out alone."""
    map_refresh_s: float = Field(default=15.0, ge=1, le=600)
    """How often the slot map is asked for when nothing suggests that it changed."""
    pending_calls_max: int = Field(default=4096, ge=1, le=1_000_000)
    """Calls that may wait on one connection; more are refused."""

    @field_validator("nodes", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value
