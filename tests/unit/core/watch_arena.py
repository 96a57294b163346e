"""A board on real stores and workers that watch it, for the tests of watches."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from core.board_directory import BoardDirectory
from core.clock import SystemClock
from core.reading import Reading
from core.tokens import TokenSigner
from core.types import Board, RankMode, ReadOptions
from core.watch_entries import WatchEntries, WatchEvent, WatchLimits, WatchMessage, WatchTarget
from tests.fakes.making import board_spec, submission
from tests.fixtures.keeping import Kept

TOP = WatchTarget(top_count=3)
SHORT_S = 0.1
"""The shortest interval there is."""


class Counted:
    """A port that counts calls, and fails or waits for as long as a test says, in all its methods
    or in some. `waiting`: one of them does.
    """

    def __init__(self, port: Any) -> None:
        self._port = port
        self.calls: Counter[str] = Counter()
        self.failure: Exception | None = None
        self.failures: dict[str, Exception] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.waiting = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        async def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            failure = self.failure or self.failures.get(name)
            if failure is not None:
                raise failure
            if held := self.held.get(name):
                self.waiting.set()
                await held.wait()
            return await method(*args, **kwargs)

        return counted


@dataclass
class Arena:
    """A board on real stores, and workers that watch it."""

    kept: Kept
    board: Board
    index: Counted
    boards: Counted
    stack: AsyncExitStack
    workers: list[WatchEntries] = field(default_factory=list)

    def worker(self, **limits: Any) -> WatchEntries:
        """Watches of a worker of its own."""
        clock = SystemClock()
        reading = Reading(
            boards=BoardDirectory(self.boards, clock),
            entries=self.index,
            ledger=self.kept.ledger,
            signer=TokenSigner([b"a secret of the tests"]),
            clock=clock,
        )
        watch = WatchEntries(reading, WatchLimits(**limits))
        self.stack.push_async_callback(watch.aclose)
        self.workers.append(watch)
        return watch

    async def submit(self, *scores: tuple[int, int]) -> None:
        """Brings (user, score) to the index; a user's last one counts."""
        submissions = [submission(user, score) for user, score in dict(scores).items()]
        result = await self.kept.record(self.board, submissions)
        await self.kept.apply(result)

    async def open(
        self, worker: WatchEntries, target: WatchTarget = TOP, **options: Any
    ) -> AsyncGenerator[WatchMessage, None]:
        """A watch that is closed at the end of the test."""
        read = {"rank_mode": options.pop("mode", RankMode.ORDINAL)}
        read["season_id"] = options.pop("season_id", "")
        arguments = {"min_interval_ms": 100, "resume_token": "", "caller": "host", **options}
        board_id = arguments.pop("board_id", self.board.spec.board_id)
        watch = worker(board_id, target, options=ReadOptions(**read), **arguments)
        return await self.stack.enter_async_context(aclosing(watch))

    async def next_season(self, *, build: bool = True) -> None:
        """Ends the season that is open and begins another one."""
        await self.kept.execute("update seasons set ends_at = now()")
        await self.kept.execute(
            "insert into seasons (board_no, season_id, starts_at)"
            f" values ({self.board.number}, 's2', now())"
        )
        if build:
            await self.kept.build_missing()


@asynccontextmanager
async def arena_of(kept: Kept) -> AsyncIterator[Arena]:
    """An empty board; what was opened on it is closed at the end."""
    async with AsyncExitStack() as stack:
        board = await kept.boards.create(board_spec())
        await kept.build_missing()
        yield Arena(kept, board, Counted(kept.index), Counted(kept.boards), stack)


async def upto(
    watch: AsyncGenerator[WatchMessage, None], told: Callable[[WatchMessage], bool]
) -> list[WatchMessage]:
    """The messages up to the first of that kind."""
    messages = []
    async with asyncio.timeout(30):
        async for message in watch:
            messages.append(message)
            if told(message):
                break
    return messages


def shown(messages: list[WatchMessage]) -> dict[int, tuple[int, int]]:
    """What a reader of these messages knows: (rank, score) by user."""
    known: dict[int, tuple[int, int]] = {}
    for message in messages:
        if message.event is WatchEvent.SNAPSHOT:
            known.clear()
        for user_id in message.removed_user_ids:
            del known[user_id]
        for entry in message.entries:
            known[entry.standing.user_id] = (entry.rank, entry.standing.score)
    return known


def has(user_id: int, score: int) -> Callable[[WatchMessage], bool]:
    """Whether a message tells this score."""
    return lambda message: any(
        (entry.standing.user_id, entry.standing.score) == (user_id, score)
        for entry in message.entries
    )
