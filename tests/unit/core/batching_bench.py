"""A batcher between scripted neighbours, for the tests of batching."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from core.batching import Settled, SubmissionBatcher
from core.board_directory import BoardDirectory
from core.clock import SystemClock
from core.errors import BoardNotFound, LedgerUnavailable, StandingsError
from core.flushes import Flush, FlushResult, Placed
from core.types import Board, IndexChange, Outcome, Recorded, Season, Submission
from tests.fakes.making import board_spec

BOARD = Board(1, board_spec(), Season(1, "s1"), 1, 0, 0)


def recorded(placed: Placed) -> Recorded:
    """What a ledger answers."""
    return Recorded(
        submission_id=placed.submission.submission_id,
        outcome=Outcome.APPLIED,
        first_outcome=Outcome.APPLIED,
        entry=None,
        previous=None,
        season=placed.board.season,
        xid=1,
        touches_index=True,
    )


@dataclass
class ScriptedLedger:
    """Holds every flush until it is let go, and remembers what came in."""

    flushes: list[Flush] = field(default_factory=list)
    gates: list[asyncio.Event] = field(default_factory=list)
    errors: dict[str, StandingsError | Exception] = field(default_factory=dict)
    held: bool = True
    arrivals: int = 0
    shut: LedgerUnavailable | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def require(self) -> None:
        """Raises where it is told to."""
        if self.shut is not None:
            raise self.shut

    async def record(
        self, flush: Flush, arrived: Callable[[], object] = lambda: None
    ) -> FlushResult:
        """Takes a flush and gives it the next arrival; answers when its gate opens."""
        if flush.arrival is None:
            self.arrivals += 1
            flush = replace(flush, arrival=self.arrivals * 1024)
            arrived()
        gate = asyncio.Event()
        self.flushes.append(flush)
        self.gates.append(gate)
        self._arrived.set()
        if self.held:
            await gate.wait()
        result = FlushResult(arrival=flush.arrival)
        for placed in flush.placed:
            error = self.errors.get(placed.submission.submission_id)
            if isinstance(error, StandingsError):
                result.results[placed.place] = error
            elif error is not None:
                raise error
            else:
                result.results[placed.place] = recorded(placed)
                change = IndexChange(1, placed.submission.user_id % 16, b"")
                result.changes.setdefault(1, []).append(change)
        return result

    async def until(self, count: int) -> None:
        """Waits for a number of flushes."""
        async with asyncio.timeout(5):
            while len(self.flushes) < count:
                self._arrived.clear()
                await self._arrived.wait()

    def users(self, number: int) -> list[int]:
        """The users of a flush, in its order."""
        return [placed.submission.user_id for placed in self.flushes[number].placed]


@dataclass
class ScriptedIndex:
    """Takes everything but the shards it is told to miss."""

    missed: frozenset[tuple[int, int]] = frozenset()
    error: Exception | None = None
    gate: asyncio.Event | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def apply(self, xid: int, changes: Sequence[IndexChange]) -> frozenset[tuple[int, int]]:
        """Says what it missed, when it is let go."""
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.missed


@dataclass
class ScriptedBoards:
    """Knows one board, or none."""

    board: Board | None = None

    async def get(self, board_id: str) -> Board:
        """The board."""
        if self.board is None:
            raise BoardNotFound
        return self.board


@dataclass
class Observer:
    """Remembers what it is told, and which calls were answered by then."""

    writes: list[tuple[Board, Recorded]] = field(default_factory=list)
    changes: list[IndexChange] = field(default_factory=list)
    calls: list[asyncio.Future[list[Settled | StandingsError]]] = field(default_factory=list)
    answered: list[bool] = field(default_factory=list)
    missed: set[tuple[int, int]] = field(default_factory=set)

    def flushed(
        self,
        writes: Iterable[tuple[Board, Recorded]],
        changes: Iterable[IndexChange],
        missed: Collection[tuple[int, int]],
    ) -> None:
        """Takes a flush."""
        self.missed |= {*missed}
        self.writes += writes
        self.changes += changes
        self.answered += [call.done() for call in self.calls]


@dataclass
class Bench:
    """A batcher between scripted neighbours."""

    ledger: ScriptedLedger
    index: ScriptedIndex
    boards: ScriptedBoards
    observer: Observer
    batcher: SubmissionBatcher
    deadline_s: float | None = None

    def send(
        self, *submissions: Submission, source: object = None
    ) -> asyncio.Future[list[Settled | StandingsError]]:
        """Takes submissions in."""
        items = [(item, BOARD) for item in submissions]
        call = self.batcher.enqueue(items, source=source or object())
        self.observer.calls.append(call)
        return call


def fresh_bench() -> Bench:
    """A fresh batcher."""
    ledger, index, boards, observer = (
        ScriptedLedger(),
        ScriptedIndex(),
        ScriptedBoards(),
        Observer(),
    )
    batcher = SubmissionBatcher(
        ledger=ledger,  # type: ignore[arg-type]
        index=index,  # type: ignore[arg-type]
        boards=BoardDirectory(boards, SystemClock()),  # type: ignore[arg-type]
        observer=observer,
        deadline_s=lambda: bench.deadline_s,
    )
    bench = Bench(ledger, index, boards, observer, batcher)
    return bench
