"""What can be set about how callers are known."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class IdentitySettings(BaseModel):
    """Settings of certificates and tokens. Nobody is asked who calls without keys and without a
    client CA, STANDINGS_SERVER_TLS_CLIENT_CA_FILE.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trust_domain: str = Field(default="standings", pattern=r"^[a-z0-9._-]{1,63}$")
    """The first part of the URIs in callers' certificates: spiffe://<trust domain>/..."""
    jwks_file: Path | None = None
    """The public keys of whoever signs tokens, as a JSON Web Key Set; read anew when it changes."""
    jwks_url: str | None = Field(
        default=None, pattern=r"^(https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/])"
    )
    """The same from a server."""
    jwks_refresh_s: float = Field(default=60.0, ge=0.1, le=3600)
    """How often it is asked."""
    issuer: str | None = Field(default=None, min_length=1)
    """Who must have issued a token (`iss`). Required with keys."""
    audience: str = Field(default="standings", min_length=1)
    """Whom a token must be for (`aud`)."""
    leeway_s: float = Field(default=30.0, ge=0, le=300)
    """By how much the clocks of issuers and servers may differ."""
    lifetime_max_s: int = Field(default=3600, ge=1, le=86_400)
    """The longest that a token may be good for; those of operators at most 900 s."""

    @property
    def tokens(self) -> bool:
        """Whether callers may prove who they are by a token."""
        return self.jwks_file is not None or self.jwks_url is not None
