"""How watches begin again, how many there may be, and what they leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from core.errors import Draining, InvalidInput, TooManyWatches
from core.types import RankMode
from core.watch_entries import WatchEvent, WatchTarget
from tests.fixtures.keeping import Kept
from tests.unit.core.watch_arena import TOP, Arena, arena_of, shown


@pytest.fixture
async def arena(kept: Kept) -> AsyncIterator[Arena]:
    """An empty board."""
    async with arena_of(kept) as arena:
        yield arena


async def test_a_watch_that_resumes_is_told_what_it_missed(arena: Arena) -> None:
    """Nothing is sent twice, and nothing is left out."""
    await arena.submit((1, 10), (2, 20))
    worker = arena.worker()
    watch = await arena.open(worker)
    first = await anext(watch)
    await watch.aclose()
    same = await anext(await arena.open(worker, resume_token=first.resume_token))
    await arena.submit((3, 15))
    other = await arena.open(worker, resume_token=first.resume_token)
    missed = await anext(other)
    elsewhere = await anext(await arena.open(arena.worker(), resume_token=missed.resume_token))

    assert (same.event, same.resume_token) == (WatchEvent.HEARTBEAT, first.resume_token)
    assert missed.event is WatchEvent.CHANGES
    assert shown([first, missed]) == {2: (1, 20), 3: (2, 15), 1: (3, 10)}
    assert [entry.standing.user_id for entry in missed.entries] == [3, 1]
    assert elsewhere.event is WatchEvent.HEARTBEAT


async def test_an_unknown_state_is_a_gap(arena: Arena) -> None:
    """A worker that never saw the state says so, and tells everything."""
    await arena.submit((1, 10))
    first = await anext(await arena.open(arena.worker()))
    await arena.submit((2, 20))
    watch = await arena.open(arena.worker(), resume_token=first.resume_token)
    gap, snapshot = await anext(watch), await anext(watch)
    again = await arena.open(arena.worker(), resume_token=gap.resume_token)

    assert (gap.event, gap.entries) == (WatchEvent.GAP, ())
    assert snapshot.event is WatchEvent.SNAPSHOT
    assert shown([snapshot]) == {2: (1, 20), 1: (2, 10)}
    assert (await anext(again)).event is WatchEvent.GAP


async def test_a_token_of_another_season_tells_the_change(arena: Arena) -> None:
    """A season that ended while nobody watched; whoever named a season is refused."""
    first = await anext(await arena.open(arena.worker()))
    await arena.next_season()
    arena.board = await arena.kept.boards.get("board")
    watch = await arena.open(arena.worker(), resume_token=first.resume_token)
    named = await arena.open(arena.worker(), resume_token=first.resume_token, season_id="s2")
    events = [(await anext(watch)).event, (await anext(watch)).event]
    with pytest.raises(InvalidInput) as caught:
        await anext(named)

    assert events == [WatchEvent.SEASON_CHANGE, WatchEvent.SNAPSHOT]
    assert caught.value.field == "resume_token"


@pytest.mark.parametrize(
    "change",
    [
        {"target": WatchTarget(top_count=4)},
        {"target": WatchTarget(user_ids=(1,))},
        {"mode": RankMode.COMPETITION},
        {"resume_token": "AAAA"},
        {"resume_token": "?"},
    ],
)
async def test_tokens_of_another_question_are_refused(arena: Arena, change: Any) -> None:
    """So is one that was altered; nothing is left behind."""
    worker = arena.worker()
    first = await anext(await arena.open(worker))
    with pytest.raises(InvalidInput) as caught:
        await anext(await arena.open(worker, **{"resume_token": first.resume_token, **change}))

    assert caught.value.field == "resume_token"
    assert worker.watch_count == 1


async def test_limits_are_named(arena: Arena) -> None:
    """Of the worker, of a caller, and of all users; what ends makes room."""
    worker = arena.worker(watch_count_max=3, watch_count_per_caller_max=2, user_count_max=3)
    first = await arena.open(worker, WatchTarget(user_ids=(1, 2)))
    await anext(first)
    with pytest.raises(TooManyWatches, match="at most 3 users"):
        await anext(
            await arena.open(worker, WatchTarget(user_ids=(3, 4)), mode=RankMode.COMPETITION)
        )
    await anext(await arena.open(worker, WatchTarget(user_ids=(1, 2))))
    with pytest.raises(TooManyWatches, match="one caller may have 2"):
        await anext(await arena.open(worker))
    await anext(await arena.open(worker, caller="other"))
    with pytest.raises(TooManyWatches, match="holds at most 3"):
        await anext(await arena.open(worker, caller="third"))
    await first.aclose()

    assert (await anext(await arena.open(worker))).event is WatchEvent.SNAPSHOT


async def test_boards_are_limited(arena: Arena) -> None:
    """Each thing that is read apart counts, however many watch it; what ends makes room."""
    worker = arena.worker(board_count_max=2)
    top = await arena.open(worker)
    await anext(top)
    await anext(await arena.open(worker, mode=RankMode.COMPETITION))
    again = await arena.open(worker, WatchTarget(top_count=9))
    await anext(again)
    users = WatchTarget(user_ids=(1,))
    with pytest.raises(TooManyWatches, match="at most 2 boards"):
        await anext(await arena.open(worker, users))
    await top.aclose()
    await again.aclose()

    assert (await anext(await arena.open(worker, users))).event is WatchEvent.SNAPSHOT


async def test_a_cancelled_watch_leaves_nothing(arena: Arena) -> None:
    """No watcher, no task, no timer, and no read any more."""
    worker = arena.worker(heartbeat_s=3600)
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks()

    async def follow(target: WatchTarget) -> None:
        async with aclosing(await arena.open(worker, target, min_interval_ms=60_000)) as watch:
            async for _ in watch:
                told.put_nowait(None)

    told: asyncio.Queue[None] = asyncio.Queue()
    targets = [TOP, TOP, WatchTarget(user_ids=(1,))]
    following = [asyncio.create_task(follow(target)) for target in targets]
    for _ in following:
        await told.get()
    for task in following:
        task.cancel()
    await asyncio.wait(following)
    pollers = tuple(worker._tasks)
    if pollers:
        await asyncio.wait(pollers, timeout=5)
    timers = [each for each in loop._scheduled if "Timeout" in repr(each)]

    assert asyncio.all_tasks() == tasks
    assert (worker.watch_count, worker._pollers) == (0, {})
    assert [] == [
        each for each in timers if not each.cancelled() and each.when() > loop.time() + 50
    ]


async def test_a_worker_that_closes_ends_its_watches(arena: Arena) -> None:
    """None waits for a read that will not come."""
    worker = arena.worker()
    watch = await arena.open(worker)
    await anext(watch)
    await worker.aclose()
    with pytest.raises(Draining):
        await anext(watch)

    assert (worker.watch_count, worker._tasks) == (0, set())
