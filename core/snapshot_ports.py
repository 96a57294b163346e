"""Snapshots: who makes them, who keeps them, who asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from core.snapshots import Snapshot
from core.types import Board


class Snapshots(Protocol):
    """The snapshots that this machine has."""

    def newest(self, season_number: int) -> Snapshot | None:
        """The last one of a season, of whatever age; None: there is none. Cost: looking at a file,
        and reading it where it is new.
        """


class SnapshotSource(Protocol):
    """A store that a snapshot can be taken of."""

    async def take(self, season_number: int) -> Snapshot:
        """One of now. Raises Unavailable."""


class SnapshotStore(Protocol):
    """Where snapshots are kept, and what is to be kept."""

    async def due(self, *, limit: int) -> Sequence[int]:
        """The seasons that were used in the last minute by any worker of this machine, those with
        the oldest snapshots first.
        """

    async def keep(self, snapshot: Snapshot) -> None:
        """Puts one in the place of the last one of its season."""


class RememberedBoards(Protocol):
    """Definitions that outlive this process, and the boards that are in use."""

    def use(self, board: Board) -> None:
        """Notes that a board is read or written, and how it is defined. Cost: a dictionary."""

    def recall(self, board_id: str) -> Board | None:
        """The board of that name as this machine last noted it, if that was in the last day."""

    def drop(self, board_id: str) -> None:
        """Recalls a board no more: PostgreSQL has said what there is of it."""
