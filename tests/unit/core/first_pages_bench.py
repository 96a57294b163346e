"""First pages before a scripted reader."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from core.board_directory import BoardDirectory
from core.errors import StandingsError
from core.first_pages import FirstPageLimits, FirstPages
from core.list_entries import EntryPage
from core.ordering import Ordering
from core.own_writes import OwnWrites
from core.types import (
    Exactness,
    RankedEntry,
    ReadMeta,
    ReadOptions,
    ScoreRange,
    Season,
    Source,
    Standing,
)
from tests.fakes.held import HeldClock, OneBoard
from tests.fakes.making import board_spec

ANY = ReadOptions()
FRESHEST = ReadOptions(max_staleness_ms=0)
PAGE = {"page_size": 2, "page_token": "", "start_rank": None, "scores": ScoreRange()}


@dataclass
class Pages:
    """Reads pages of a board with scores; counts, waits and fails as it is told to."""

    clock: HeldClock
    scores: list[int]
    lag_ms: int = 0
    missing: tuple[int, ...] = ()
    calls: list[tuple[int, ReadOptions]] = field(default_factory=list)
    error: StandingsError | None = None
    gate: asyncio.Event | None = None

    async def __call__(
        self,
        board_id: str,
        *,
        page_size: int,
        page_token: str,
        start_rank: int | None,
        scores: ScoreRange,
        options: ReadOptions,
    ) -> EntryPage:
        """What the board was like when the read began."""
        self.calls.append((page_size, options))
        as_of_ms, board = self.clock.now_ms(), sorted(self.scores, reverse=True)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        shown = [Standing(place + 1, score, 0, 0) for place, score in enumerate(board[:page_size])]
        return EntryPage(
            [RankedEntry(standing, place + 1) for place, standing in enumerate(shown)],
            "more" if len(board) > page_size else "",
            "",
            ReadMeta(
                as_of_ms=as_of_ms,
                source=Source.DATABASE if self.missing else Source.INDEX,
                exactness=Exactness.EXACT,
                season_id="s1",
                epoch=1,
                entry_count=len(board),
                staleness_ms=self.lag_ms,
                shards_missing=self.missing,
            ),
        )


class Bench:
    """First pages before a scripted reader; the page of two shows 90 and 80 of three entries."""

    def __init__(self, limits: FirstPageLimits | None = None) -> None:
        self.clock = HeldClock()
        self.reader = Pages(self.clock, [90, 80, 70])
        self.own = OwnWrites()
        self.store = OneBoard(Season(1, "s1"))
        self.left_s: float | None = None
        self.pages = FirstPages(
            self.reader,
            boards=BoardDirectory(self.store, self.clock),  # type: ignore[arg-type]
            own_writes=self.own,
            clock=self.clock,
            limits=limits or FirstPageLimits(),
            deadline_s=self._deadline_s,
        )

    @property
    def reads(self) -> int:
        """How often the board was read."""
        return len(self.reader.calls)

    async def get(self, options: ReadOptions = ANY, **changed: object) -> EntryPage:
        """A page."""
        return await self.pages("board", options=options, **PAGE | changed)  # type: ignore[arg-type]

    def _deadline_s(self) -> float | None:
        return None if self.left_s is None else self.clock.monotonic_s() + self.left_s

    def write(self, score: int) -> None:
        """A new entry, acknowledged by this worker."""
        self.reader.scores.append(score)
        self.own.wrote(1, Ordering.of(board_spec()).result(score, 0), 1)

    async def settle(self) -> None:
        """Lets reads that nobody waits for come to their end."""
        while self.pages._tasks:
            await asyncio.wait(self.pages._tasks)


async def turns() -> None:
    """Lets all go on that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def told(page: EntryPage) -> tuple[Source, int, list[int]]:
    """The source of a page, its age and its scores."""
    scores = [entry.standing.score for entry in page.entries]
    return page.meta.source, page.meta.staleness_ms, scores
