"""What snapshots need from the world, and who asks for them."""

from __future__ import annotations

from typing import Protocol

from core.snapshots import Snapshot


class Snapshots(Protocol):
    """The snapshots that this machine has."""

    def newest(self, season_number: int) -> Snapshot | None:
        """The last one of a season, of whatever age; None: there is none. Also notes that the
        season is read, so that its snapshots go on being made. Cost: looking at a file.
        """
