"""What goes to the ledger together, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.errors import StandingsError
from core.types import Board, IndexChange, Recorded, Submission
from core.values import value


@value
class Placed:
    """A submission with its board and its place in a flush, 0 to 1,023."""

    submission: Submission
    board: Board
    place: int


@value
class Flush:
    """Submissions that go to the ledger in one transaction, in the order they were made.

    `arrival` is the first arrival number of the flush; the arrival of a submission is that plus
    its place. None: it is sealed now, and has none yet.
    """

    arrival: int | None
    placed: Sequence[Placed]


@dataclass(slots=True)
class FlushResult:
    """What the ledger did. `results` by place; `changes` by the transaction that made them.
    `arrival` is that of the flush, None where it was given none.
    """

    arrival: int | None = None
    results: dict[int, Recorded | StandingsError] = field(default_factory=dict)
    changes: dict[int, list[IndexChange]] = field(default_factory=dict)

    def add(self, part: FlushResult) -> None:
        """Takes in what became of a part of the same flush."""
        self.results |= part.results
        for xid, changes in part.changes.items():
            self.changes.setdefault(xid, []).extend(changes)
