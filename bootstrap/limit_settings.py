"""What can be set about how much a caller may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

RoleLimit = Annotated[
    str,
    StringConstraints(
        pattern=r"^(game-server|client|internal|sre|privacy-officer)\.(writes|reads|admin)"
        r"=\d{1,9}(\.\d{1,3})?$"
    ),
]
_Rate = Annotated[float, Field(ge=0, le=1_000_000_000)]

KINDS: Final = ("writes", "reads", "admin")
"""What methods are told apart by; server/identity/policy.py says which is which."""


class LimitSettings(BaseModel):
    """What each caller may ask a machine for. A rate of 0 is no limit. Nobody is limited where
    nobody is asked who calls, unless `anonymous` is set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    writes_per_s: _Rate = 20_000.0
    """Submissions and removals of entries, of one caller."""
    reads_per_s: _Rate = 20_000.0
    """Reads; docs/limits.md has what those of many entries count."""
    admin_per_s: _Rate = 100.0
    """What operators and moderators do, and definitions of boards."""
    roles: tuple[RoleLimit, ...] = ("client.writes=20", "client.reads=100")
    """Rates of a role in place of the three above, as role.writes=N, role.reads=N or role.admin=N
    with commas between. Of a caller's roles the one that permits most decides."""
    burst_s: float = Field(default=2.0, ge=0.1, le=60)
    """Of how many seconds a caller may use the rate at once."""
    in_flight_share: float = Field(default=0.5, gt=0, le=1)
    """Of the calls that a worker holds, STANDINGS_SERVER_IN_FLIGHT_MAX, the part that one caller
    may have."""
    callers_max: int = Field(default=10_000, ge=100, le=1_000_000)
    """Callers that a worker remembers; who was silent for longest is forgotten first."""
    anonymous: bool = False
    """Whether callers are limited where nobody is asked who calls: each host, as a game server."""

    @field_validator("roles", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    def rates_of(self, role: str) -> Mapping[str, float]:
        """The rates of a role, a second, by kind."""
        rates = dict(
            zip(KINDS, (self.writes_per_s, self.reads_per_s, self.admin_per_s), strict=True)
        )
        for limit in self.roles:
            name, _, rate = limit.partition("=")
            of, _, kind = name.partition(".")
            if of == role:
                rates[kind] = float(rate)
        return rates
