"""What can be set about how commands reach a server that runs somewhere."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class ClientSettings(BaseModel):
    """Settings of `standings breakers`, `shards`, `verify`, `rebuild` and `health`; without them
    connections are plain.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: Path | None = None
    """Who vouches for servers, PEM. With it connections are by TLS."""
    cert_file: Path | None = None
    """The certificate to show, PEM."""
    key_file: Path | None = None
    """The key to it, PEM."""
    token_file: Path | None = None
    """A bearer token in place of a certificate; read for each call."""
    server_name: str | None = None
    """The name that servers have in their certificates, where it is not the one that they are
    reached by."""
