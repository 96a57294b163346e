"""What can be set about breaking things on a schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ChaosSettings(BaseModel):
    """When the jobs run `standings chaos`, on what, and where they leave its reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_days: int = Field(default=0, ge=0, le=366)
    """0: never. 7: weekly, by whoever runs the jobs, if the last report here is so old."""
    address: str = ""
    """A deployment that runs somewhere and allows for faults, host:port; empty: one of its own,
    with embedded servers."""
    admin_address: str = ""
    """Where its operators connect, host:port."""
    report: Path = Path(".standings/chaos")
    """The folder of the reports."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if bool(self.address) != bool(self.admin_address):
            raise ValueError("address and admin_address: give both, or neither")
        return self
