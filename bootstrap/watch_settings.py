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
    boards_max: int = Field(default=1_000, ge=1, le=100_000)
    """Boards that the worker follows; the top and the lists of users count apart, and so does each
    rank mode: each is read again in every interval."""
    users_max: int = Field(default=2_000, ge=100, le=1_000_000)
    """Users that the worker follows, those of different lists counted apart."""
    heartbeat_s: float = Field(default=15.0, ge=0.1, le=600)
    """After how long without a message a watcher is told that nothing changed."""

    def limits(self) -> WatchLimits:
        """The same for the core."""
        return WatchLimits(
            watch_count_max=self.watches_max,
            watch_count_per_caller_max=self.watches_per_caller_max,
            board_count_max=self.boards_max,
            user_count_max=self.users_max,
            heartbeat_s=self.heartbeat_s,
        )
