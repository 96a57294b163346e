"""What can be set about following boards."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from core.watch_entries import WatchLimits


class WatchSettings(BaseModel):
    """Settings of one worker's watches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    watches_max: int = Field(default=10_000, ge=1, le=1_000_000)
    """Watches that the worker holds at once; more get RESOURCE_EXHAUSTED."""
    watches_per_caller_max: int = Field(default=2_000, ge=1, le=1_000_000)
    """Watches from one host, over all its connections."""
    users_per_board_max: int = Field(default=10_000, ge=100, le=1_000_000)
    """Users of one board that are followed, those of different lists counted apart: all of them
    are read again in every interval."""
    heartbeat_s: float = Field(default=15.0, ge=0.1, le=600)
    """After how long without a message a watcher is told that nothing changed."""

    def limits(self) -> WatchLimits:
        """The same for the core."""
        return WatchLimits(
            watch_count_max=self.watches_max,
            watch_count_per_caller_max=self.watches_per_caller_max,
            user_count_per_board_max=self.users_per_board_max,
            heartbeat_s=self.heartbeat_s,
        )
