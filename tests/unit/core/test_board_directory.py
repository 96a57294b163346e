"""The boards a worker knows."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

import pytest

from core.board_directory import BoardDirectory
from core.errors import (
    BoardNotFound,
    LedgerUnavailable,
    QueueFull,
    StandingsError,
    WriteConflict,
)
from core.types import Board, Season
from tests.fakes.held import HeldClock
from tests.fakes.making import board_spec

BOARD = Board(1, board_spec(), Season(1, "s1"), 1, 0, 0)


@dataclass
class Store:
    """One board, or why there is none."""

    board: Board = BOARD
    error: StandingsError | None = None
    reads: int = 0

    async def get(self, board_id: str) -> Board:
        """It."""
        self.reads += 1
        if self.error is not None:
            raise self.error
        return self.board


def directory() -> tuple[BoardDirectory, Store, HeldClock]:
    """A directory of that store, and the clock it goes by."""
    store, clock = Store(), HeldClock()
    return BoardDirectory(store, clock), store, clock  # type: ignore[arg-type]


async def test_a_shared_read_has_a_context_of_its_own() -> None:
    """It is not cut short by what holds for the first caller alone."""
    mine: ContextVar[bool] = ContextVar("mine", default=False)
    seen = []

    @dataclass
    class Watching(Store):
        async def get(self, board_id: str) -> Board:
            seen.append(mine.get())
            return self.board

    mine.set(True)
    await BoardDirectory(Watching(), HeldClock()).get("board")  # type: ignore[arg-type]
    assert seen == [False]


async def test_a_definition_is_read_once_a_second() -> None:
    """Then anew."""
    boards, store, clock = directory()
    await boards.get("board")
    clock.ms += 999
    await boards.get("board")
    assert store.reads == 1

    store.board = replace(BOARD, version=2)
    clock.ms += 1

    assert (await boards.get("board")).version == 2


async def test_the_last_definition_holds_while_postgres_is_silent() -> None:
    """PostgreSQL is not asked for each call meanwhile; as soon as it answers, it is believed."""
    boards, store, clock = directory()
    await boards.get("board")
    store.error = LedgerUnavailable()
    clock.ms += 60_000

    assert await boards.get("board") is BOARD
    assert await boards.get("board") is BOARD
    assert store.reads == 2
    with pytest.raises(LedgerUnavailable):
        await boards.get("another")

    store.error, store.board = None, replace(BOARD, version=2)
    clock.ms += 1_000
    assert (await boards.get("board")).version == 2


async def test_a_board_that_is_gone_is_not_remembered() -> None:
    """Also not once PostgreSQL is silent."""
    boards, store, clock = directory()
    await boards.get("board")
    clock.ms += 1_000
    store.error = BoardNotFound()
    with pytest.raises(BoardNotFound):
        await boards.get("board")

    store.error = LedgerUnavailable()
    with pytest.raises(LedgerUnavailable):
        await boards.get("board")


@dataclass
class Remembered:
    """What outlives a process."""

    boards: dict[str, Board]
    used: list[Board] = field(default_factory=list)

    def use(self, board: Board) -> None:
        """Notes it."""
        self.used.append(board)

    def recall(self, board_id: str) -> Board | None:
        """The one that was there from the start."""
        return self.boards.get(board_id)

    def drop(self, board_id: str) -> None:
        """It is no more."""
        self.boards.pop(board_id, None)


async def test_a_board_from_before_the_start_will_do_while_postgres_is_silent() -> None:
    """Until it answers; one that nobody remembers is not made up."""
    store, clock = Store(error=LedgerUnavailable()), HeldClock()
    remembered = Remembered({"board": BOARD})
    boards = BoardDirectory(store, clock, remembered)  # type: ignore[arg-type]

    assert await boards.get("board") == BOARD
    with pytest.raises(LedgerUnavailable):
        await boards.get("other")
    store.error, store.board = None, replace(BOARD, version=2)
    clock.ms += 1_000
    assert (await boards.get("board")).version == 2
    store.error = BoardNotFound()
    clock.ms += 1_000
    with pytest.raises(BoardNotFound):
        await boards.get("board")


async def test_the_use_of_a_board_is_noted() -> None:
    """Each time, also where the definition is at hand."""
    remembered = Remembered({})
    boards = BoardDirectory(Store(), HeldClock(), remembered)  # type: ignore[arg-type]

    for _ in range(3):
        await boards.get("board")

    assert remembered.used == [BOARD] * 3


async def test_a_slow_store_does_not_hold_up_who_can_do_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is known is given meanwhile; what the store says in the end is known then."""
    monkeypatch.setattr("core.board_directory._PATIENCE_S", 0.0)
    boards, store, clock = directory()
    await boards.get("board")
    answers, read = asyncio.Event(), store.get

    async def slowly(board_id: str) -> Board:
        await answers.wait()
        return await read(board_id)

    store.get = slowly  # type: ignore[method-assign]
    clock.ms += 2_000

    assert await boards.get("board") == BOARD
    store.board = replace(BOARD, version=2)
    answers.set()
    assert await boards.reload("board") == store.board
    assert await boards.get("board") == store.board


@pytest.mark.parametrize("error", [LedgerUnavailable(), QueueFull(), WriteConflict()])
async def test_a_known_board_outlives_whatever_keeps_the_store_from_telling(
    error: StandingsError,
) -> None:
    """Its own queue being full, or its table locked, is no reason to fail a read of the index."""
    boards, store, clock = directory()
    await boards.get("board")
    store.error = error
    clock.ms += 2_000

    assert await boards.get("board") == BOARD
