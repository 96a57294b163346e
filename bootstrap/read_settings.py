"""What can be set about the answers a worker keeps."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ReadSettings(BaseModel):
    """Settings of one worker's read caches. None of them is used for a consistency token, and none
    shows the state before a submission that the same worker has acknowledged, unless the index
    cannot answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_page_ms: int = Field(default=250, ge=0, le=10_000)
    """How long a board's first page is given as it is. For as long again it is given while a new
    one is read. 0: every page is read."""
    first_page_entries_max: int = Field(default=100_000, ge=2_000, le=10_000_000)
    """Entries of first pages a worker holds, about 300 bytes each."""
    hot_entry_s: float = Field(default=30.0, ge=0, le=300)
    """How long a user's entry and rank are given as they are. 0: every entry is read."""
    hot_entries_max: int = Field(default=1_000, ge=0, le=1_000_000)
    """Users whose entries a worker holds; those asked for longest ago go first. 0: none."""
    snapshot_s_max: float = Field(default=300.0, ge=0, le=86_400)
    """How old a snapshot may be that is told while neither store answers. 0: none is."""
    stale_if_error_s: float = Field(default=30.0, ge=0, le=300)
    """While the index cannot answer, an answer up to this old is given, with its age. 0: none."""
    shadow_reads_per_s: float = Field(default=1.0, ge=0, le=5)
    """How many answers of the index are held against PostgreSQL, so that a fault of either is
    found before it is needed. 0: none."""
