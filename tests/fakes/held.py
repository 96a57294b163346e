"""Time and boards that stand still until a test moves them."""

from __future__ import annotations

from dataclasses import dataclass

from core.types import Board, Season
from tests.fakes.making import board_spec


@dataclass
class HeldClock:
    """Time that passes when it is told to."""

    ms: int = 1_000_000

    def now_ms(self) -> int:
        """The time."""
        return self.ms

    def monotonic_s(self) -> float:
        """The same, in seconds."""
        return self.ms / 1000


@dataclass
class OneBoard:
    """A store of one board, in whatever season the test says."""

    season: Season

    async def get(self, board_id: str) -> Board:
        """The board."""
        return Board(1, board_spec(), self.season, 1, 0, 0)
