"""What can be set about the audit."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class AuditSettings(BaseModel):
    """Where a machine records what operators, moderators and privacy officers do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: Path | None = None
    """Of one server alone, on a disk that outlives it: what has not come to PostgreSQL yet is
    nowhere else. None: `audit` in STANDINGS_STATE_DIRECTORY."""
    file_bytes_max: int = Field(default=16 * 1024 * 1024, ge=4096, le=1024 * 1024 * 1024)
    """A file that has grown past this is followed by another one. None is ever removed."""
