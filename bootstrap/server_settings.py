"""What can be set about the listeners of a worker."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_Address = Annotated[str, Field(pattern=r"^.+:\d{1,5}$")]


class Transport(Enum):
    """What speaks HTTP/2 with games. Operators are always served by grpcio."""

    GRPCIO = "grpcio"
    """Everywhere where Python is."""
    ENVOY = "envoy"
    """Takes less time of a worker; on Linux with the extra `envoy` installed."""


class ServerSettings(BaseModel):
    """Settings of the workers and of the two listeners that each has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: _Address = "127.0.0.1:50051"
    """Where games connect, host:port; port 0 takes a free one."""
    admin_address: _Address = "127.0.0.1:50052"
    """Where operators connect."""
    token_address: _Address | None = None
    """Where games and players without certificates connect, if `address` asks for them: by TLS, and
    a token tells who calls."""
    health_address: _Address | None = None
    """Where `standings health` asks, on this machine: plainly, for a probe has no certificate, and
    for health alone. None: at `address`, as STANDINGS_CLIENT_* say."""
    tls_cert_file: Path | None = None
    """What the server shows to prove its name: its certificate and those between it and the root,
    PEM. Read anew when it changes, as are the two below."""
    tls_key_file: Path | None = None
    """The key to it, PEM."""
    tls_client_ca_file: Path | None = None
    """Who vouches for callers, PEM. With it, callers of `address` and `admin_address` need a
    certificate."""
    insecure: bool = False
    """Whether addresses that others than this machine reach may be served without TLS, or without
    asking who calls."""
    transport: Transport = Transport.GRPCIO
    """How workers of `standings serve` are connected: grpcio or envoy."""
    workers: int = Field(default=0, ge=0, le=48)
    """Processes that serve. 0: one per core, but at most 4, because each has pools of its own and
    PostgreSQL, as it comes, takes 100 connections."""
    worker_memory_growth_max: float = Field(default=1.5, ge=0, le=100)
    """A worker that holds this many times the memory that it had when it was warm is replaced.
    0: never."""
    worker_warm_s: float = Field(default=300.0, gt=0, le=86_400)
    """The age at which a worker is warm: its caches are filled."""
    reflection: bool = False
    """Whether tools may ask which services there are."""
    faults: bool = False
    """Whether operators may inject faults."""
    reuse_port: bool = False
    """Whether others may listen on the same port. The workers of a supervisor always may; its own
    start is stopped by a taken port."""
    in_flight_max: int = Field(default=1000, ge=1, le=100_000)
    """Calls in progress on one listener, a stream counted once; more get RESOURCE_EXHAUSTED."""
    deadline_max_s: float = Field(default=30.0, gt=0, le=600)
    """What a unary call gets at most, whatever deadline it came with."""
    slow_call_s: float = Field(default=1.0, gt=0, le=600)
    """A unary call that takes longer is logged as a warning."""
    request_bytes_max: int = Field(default=4 * 1024 * 1024, ge=64 * 1024, le=64 * 1024 * 1024)
    """The largest message. 1,000 submissions with 1 KiB of metadata each, as JSON, are more than
    1 MiB and, on the wire, up to several: 4 MiB hold them with text or numbers of usual length."""
    send_timeout_s: float = Field(default=60.0, ge=0.1, le=3600)
    """How long a message of a stream may wait for its caller to read; then the stream ends."""
    streams_per_connection_max: int = Field(default=256, ge=1, le=10_000)
    """Calls that one connection may have open; its further calls wait on the caller's side."""
    connection_age_max_s: float = Field(default=300.0, ge=1, le=86_400)
    """When a connection is asked to reconnect, so that load spreads over new workers."""
    connection_age_grace_s: float = Field(default=30.0, ge=0, le=3600)
    """How long calls of such a connection may still run; with Envoy, as long as they want."""
    drain_settle_s: float = Field(default=2.0, ge=0, le=60)
    """From NOT_SERVING to the end of streams: balancers need time to look elsewhere."""
    drain_grace_s: float = Field(default=5.0, ge=0, le=300)
    """How long calls may still run before they are cancelled."""
