"""Shadow reads: few, harmless, and sure of what they tell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.ladder import Ladder
from core.ordering import Item
from core.ports import Freshness, KeyRange
from core.shadow_reads import ShadowReads
from core.types import Board, Season
from tests.fakes.making import board_spec
from tests.fakes.memory_index import MemoryIndex

BOARD = Board(1, board_spec(), Season(1, "s1"), 1, 0, 0)


class Watch:
    """A clock that only the test moves."""

    now_s = 100.0

    def now_ms(self) -> int:
        """As wall-clock time."""
        return int(self.now_s * 1000)

    def monotonic_s(self) -> float:
        """As it was set."""
        return self.now_s


class Scene:
    """An index and a database with the same entries, and a ladder that shadows its reads."""

    def __init__(self, per_second: float) -> None:
        self.clock = Watch()
        self.index, self.database = MemoryIndex(), MemoryIndex()
        for side in (self.index, self.database):
            for user in range(1, 30):
                side.put(BOARD, (user, user, 0), arrival=user)
        self.compared: list[bool] = []
        self.shadow = ShadowReads(
            self.index,
            self.database,
            self.clock,
            per_second=per_second,
            on_compared=self.compared.append,
        )
        self.ladder = Ladder(self.index, self.database, self.database, self.shadow)

    async def entry(self, user_id: int) -> None:
        """One user's entry is read."""
        await self.ladder.users(1, [user_id], cutoff_bytes=32, fresh=Freshness())

    async def top(self) -> None:
        """The top is read."""
        await self.ladder.window(1, b"", above=0, below=5, within=KeyRange(), fresh=Freshness())

    async def settled(self) -> None:
        """All comparisons have ended."""
        while self.shadow._tasks:
            await asyncio.wait(self.shadow._tasks)


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """With no time between the two looks."""
    monkeypatch.setattr("core.shadow_reads._AGAIN_S", 0.0)
    scene = Scene(per_second=5)
    yield scene
    await scene.shadow.aclose()


@pytest.mark.parametrize("read", ["entry", "top"])
async def test_a_difference_is_told(
    scene: Scene, read: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted, and logged without a word of what the entries are."""
    scene.database.put(BOARD, (29, 1000, 0), arrival=99)

    await (scene.entry(29) if read == "entry" else scene.top())
    await scene.settled()

    assert scene.compared == [True]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_equal_sides_are_no_news(scene: Scene) -> None:
    """Also where there is no entry on either side."""
    for read in (scene.entry(3), scene.entry(77), scene.top()):
        await read
        await scene.settled()
        scene.clock.now_s += 0.2

    assert scene.compared == [False] * 3


@pytest.mark.parametrize("side", ["index", "database"])
async def test_what_moves_meanwhile_is_no_difference(scene: Scene, side: str) -> None:
    """A write that one side had first has come to the other one by the second look."""
    scene.database.put(BOARD, (29, 1000, 0), arrival=99)
    moving = getattr(scene, side)
    users, looks = moving.users, []

    async def read(*args: Any, **kwargs: Any) -> Any:
        looks.append(args)
        if len(looks) == 2:
            moving.items[1][29] = Item(29, b"\1" * 24, 2, 0, 0)
        return await users(*args, **kwargs)

    moving.users = read

    await scene.entry(29)
    await scene.settled()

    assert scene.compared == [False]


async def test_reads_are_few(scene: Scene) -> None:
    """Five a second, however many answers there are."""
    for _ in range(200):
        await scene.entry(3)
        scene.clock.now_s += 0.01
    await scene.settled()

    assert len(scene.compared) in (9, 10, 11)


async def test_a_slow_database_is_left_alone(scene: Scene) -> None:
    """For ten seconds after a read that took long."""
    users = scene.database.users

    async def slow(*args: Any, **kwargs: Any) -> Any:
        scene.clock.now_s += 0.2
        return await users(*args, **kwargs)

    scene.database.users = slow  # type: ignore[method-assign]
    for _ in range(12):
        await scene.entry(3)
        await scene.settled()
        scene.clock.now_s += 1.0

    assert len(scene.compared) == 2


async def test_none_are_made_where_none_are_wanted() -> None:
    """A rate of 0 turns them off."""
    scene = Scene(per_second=0)

    await scene.entry(3)

    assert not scene.compared
