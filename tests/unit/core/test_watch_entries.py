"""Watches on real stores: what is told, when, and what it costs."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from core.errors import (
    BoardNotFound,
    IndexUnavailable,
    LedgerUnavailable,
    QueueFull,
    SeasonNotFound,
    WriteConflict,
)
from core.types import RankMode, Source
from core.watch_entries import WatchEvent, WatchMessage, WatchTarget
from tests.fakes.making import board_spec
from tests.fixtures.keeping import Kept
from tests.unit.core.watch_arena import SHORT_S, Arena, arena_of, has, shown, upto


@pytest.fixture
async def arena(kept: Kept) -> AsyncIterator[Arena]:
    """An empty board."""
    async with arena_of(kept) as arena:
        yield arena


async def test_a_snapshot_and_then_changes(arena: Arena) -> None:
    """First all that is followed, then what is new or different and who left."""
    await arena.submit((1, 10), (2, 20), (3, 30), (4, 5))
    watch = await arena.open(arena.worker())
    first = await anext(watch)
    await arena.submit((4, 25))
    second = await anext(watch)

    assert (first.event, first.removed_user_ids) == (WatchEvent.SNAPSHOT, ())
    assert shown([first]) == {3: (1, 30), 2: (2, 20), 1: (3, 10)}
    assert (second.event, second.removed_user_ids) == (WatchEvent.CHANGES, (1,))
    assert shown([first, second]) == {
        3: (1, 30),
        4: (2, 25),
        2: (3, 20),
    }
    assert [entry.standing.user_id for entry in second.entries] == [4, 2]
    assert (second.meta.season_id, second.meta.entry_count) == ("s1", 4)


async def test_users_are_followed(arena: Arena) -> None:
    """Those who have an entry, best first with their ranks on the board; the others join later."""
    await arena.submit((1, 10), (2, 20), (3, 30))
    watch = await arena.open(arena.worker(), WatchTarget(user_ids=(1, 2, 9)))
    first = await anext(watch)
    await arena.submit((9, 15))
    second = await anext(watch)

    assert [entry.standing.user_id for entry in first.entries] == [2, 1]
    assert shown([first]) == {2: (2, 20), 1: (3, 10)}
    assert shown([second]) == {9: (3, 15), 1: (4, 10)}


async def test_equal_results_share_their_rank(arena: Arena) -> None:
    """Competition ranks, of a top list and of users alike."""
    await arena.submit((1, 10), (2, 30), (3, 30), (4, 20))
    worker = arena.worker()
    top = await arena.open(worker, WatchTarget(top_count=9), mode=RankMode.COMPETITION)
    users = await arena.open(worker, WatchTarget(user_ids=(1, 3)), mode=RankMode.COMPETITION)

    assert shown([await anext(top)]) == {2: (1, 30), 3: (1, 30), 4: (3, 20), 1: (4, 10)}
    assert shown([await anext(users)]) == {3: (1, 30), 1: (4, 10)}


async def test_one_read_serves_all_watchers(arena: Arena) -> None:
    """200 watchers of two sizes cost one read an interval, and share what they are told."""
    await arena.submit(*((user, user) for user in range(1, 30)))
    worker = arena.worker()
    targets = [WatchTarget(top_count=5), WatchTarget(top_count=10)]
    watches = [await arena.open(worker, targets[n % 2]) for n in range(200)]
    began_s = time.monotonic()
    snapshots = await asyncio.gather(*map(anext, watches))
    await arena.submit((50, 50))
    changes = await asyncio.gather(*map(anext, watches))
    ticks = (time.monotonic() - began_s) / SHORT_S

    assert {len(message.entries) for message in snapshots} == {5, 10}
    assert 2 <= arena.index.calls["window"] <= ticks + 1
    assert arena.index.calls["users"] == 0
    assert len(set(map(id, changes))) == len(set(map(id, snapshots))) == 2


async def test_all_watched_users_are_read_at_once(arena: Arena) -> None:
    """However many lists there are: their users are asked for together."""
    await arena.submit(*((user, user) for user in range(1, 60)))
    worker = arena.worker()
    watches = [
        await arena.open(worker, WatchTarget(user_ids=(user, user + 1))) for user in range(1, 51)
    ]
    began_s = time.monotonic()
    await asyncio.gather(*map(anext, watches))
    await arena.submit((20, 1000))
    await anext(watches[18])
    ticks = (time.monotonic() - began_s) / SHORT_S

    assert 2 <= arena.index.calls["users"] == arena.index.calls["count_before"] <= ticks + 1
    assert arena.index.calls["window"] == 0


async def test_slow_readers_miss_states_but_not_the_last_one(arena: Arena) -> None:
    """Whoever comes back after a while gets one message, from what it knew to what is true."""
    worker = arena.worker()
    fast, slow = [await arena.open(worker) for _ in range(2)]
    messages = {"fast": [await anext(fast)], "slow": [await anext(slow)]}
    for score in range(1, 9):
        await arena.submit((score % 5 + 1, score * 10))
        messages["fast"] += await upto(fast, has(score % 5 + 1, score * 10))
    messages["slow"].append(await anext(slow))

    assert shown(messages["slow"]) == shown(messages["fast"])
    assert len(messages["fast"]) > 8
    assert {message.event for message in messages["slow"][1:]} == {WatchEvent.CHANGES}


async def test_intervals_are_kept(arena: Arena) -> None:
    """A watcher who asked for few messages gets few, beside one who asked for many."""
    worker = arena.worker()
    often = await arena.open(worker)
    seldom = await arena.open(worker, min_interval_ms=350)
    stop = asyncio.Event()

    async def read(watch: AsyncGenerator[WatchMessage, None], count: int) -> list[float]:
        times = []
        async for _ in watch:
            times.append(time.monotonic())
            if len(times) == count:
                break
        return times

    async def submit() -> None:
        score = 0
        while not stop.is_set():
            score += 1
            await arena.submit((1, score))

    submitting = asyncio.create_task(submit())
    reading = asyncio.create_task(read(often, 1000))
    seldom_s = await read(seldom, 4)
    stop.set()
    await submitting
    reading.cancel()
    await asyncio.wait((reading,))
    gaps = [after - before for before, after in itertools.pairwise(seldom_s)]

    assert min(gaps) >= 0.349
    assert arena.index.calls["window"] > 2 * len(seldom_s)
    assert arena.index.calls["window"] <= (seldom_s[-1] - seldom_s[0]) / SHORT_S + 6


async def test_a_snapshot_is_read_after_the_watch_began(arena: Arena) -> None:
    """A watcher who is in no hurry does not make another one wait, or see what was."""
    worker = arena.worker()
    patient = await arena.open(worker, min_interval_ms=60_000)
    await anext(patient)
    await arena.submit((1, 10))
    late = await arena.open(worker, min_interval_ms=60_000)
    async with asyncio.timeout(10):
        message = await anext(late)

    assert shown([message]) == {1: (1, 10)}


async def test_heartbeats_say_how_old_the_state_is(arena: Arena) -> None:
    """While the index is silent their staleness grows; a failed read is not the end."""
    await arena.submit((1, 10))
    watch = await arena.open(arena.worker(heartbeat_s=0.2))
    first, quiet = await anext(watch), await anext(watch)
    arena.index.failure = IndexUnavailable()
    failing = await upto(watch, lambda message: message.meta.staleness_ms > 0)
    later = await anext(watch)
    arena.index.failure = None
    await arena.submit((1, 20))
    after = await upto(watch, has(1, 20))

    assert (quiet.event, quiet.meta.staleness_ms) == (WatchEvent.HEARTBEAT, 0)
    assert quiet.meta.as_of_ms > first.meta.as_of_ms
    assert (quiet.entries, quiet.resume_token) == ((), first.resume_token)
    assert later.event is WatchEvent.HEARTBEAT
    assert later.meta.as_of_ms == failing[-1].meta.as_of_ms
    assert later.meta.staleness_ms >= failing[-1].meta.staleness_ms + 150
    assert (after[-1].event, after[-1].meta.staleness_ms) == (WatchEvent.CHANGES, 0)


@pytest.mark.parametrize(
    "failure", [LedgerUnavailable(), QueueFull(), WriteConflict(), TimeoutError()], ids=repr
)
async def test_a_watch_outlives_a_silent_ledger(arena: Arena, failure: Exception) -> None:
    """PostgreSQL only tells the season; who watches is told changes without it, and it is asked
    again once a second.
    """
    watch = await arena.open(arena.worker())
    await anext(watch)
    arena.boards.failure = failure
    asked, asked_s = arena.boards.calls["get"], list[float]()
    for score in range(1, 100):
        await arena.submit((1, score))
        await upto(watch, has(1, score))
        if arena.boards.calls["get"] > asked + len(asked_s):
            asked_s.append(time.monotonic())
        if len(asked_s) == 2:
            break

    assert asked_s[1] - asked_s[0] >= 0.5


async def test_heartbeats_do_not_put_changes_off(arena: Arena) -> None:
    """Whoever wants changes less often than heartbeats is told both."""
    watch = await arena.open(arena.worker(heartbeat_s=0.1), min_interval_ms=350)
    await anext(watch)
    began_s = time.monotonic()
    await arena.submit((1, 10))
    *before, change = await upto(watch, has(1, 10))

    assert change.event is WatchEvent.CHANGES
    assert time.monotonic() - began_s >= 0.3
    assert {message.event for message in before} == {WatchEvent.HEARTBEAT}


async def test_users_do_not_hold_up_the_top(arena: Arena) -> None:
    """While lists cannot be read, or take for ever, the top is told and is not called old."""
    worker = arena.worker(heartbeat_s=0.2)
    top = await arena.open(worker)
    users = await arena.open(worker, WatchTarget(user_ids=(1,)))
    await asyncio.gather(anext(top), anext(users))
    arena.index.failures["users"] = IndexUnavailable()
    failing = await upto(users, lambda message: message.meta.staleness_ms > 0)
    quiet = await upto(top, lambda message: message.event is WatchEvent.HEARTBEAT)
    del arena.index.failures["users"]
    arena.index.held["users"] = asyncio.Event()
    await arena.index.waiting.wait()
    await arena.submit((1, 20))
    change = (await upto(top, has(1, 20)))[-1]
    arena.index.held.pop("users").set()
    told = (await upto(users, has(1, 20)))[-1]

    assert failing[-1].event is WatchEvent.HEARTBEAT
    assert (quiet[-1].meta.staleness_ms, change.meta.staleness_ms) == (0, 0)
    assert told.event is WatchEvent.CHANGES


async def test_a_few_reads_at_once(arena: Arena) -> None:
    """Many seasons queue for the index; each is read when its turn comes."""
    numbers = range(10)
    for number in numbers:
        await arena.kept.boards.create(board_spec(f"b{number}"))
    await arena.kept.build_missing()
    worker = arena.worker()
    held = arena.index.held["window"] = asyncio.Event()
    watches = [await arena.open(worker, board_id=f"b{number}") for number in numbers]
    reading = [asyncio.create_task(anext(watch)) for watch in watches]
    while arena.index.calls["window"] < 4 or len(worker._tasks) < len(watches):
        await asyncio.wait(reading, timeout=0.05)
    asked = arena.index.calls["window"]
    held.set()
    messages = await asyncio.gather(*reading)

    assert asked == 4
    assert {message.event for message in messages} == {WatchEvent.SNAPSHOT}


async def test_a_read_is_followed_by_a_pause_as_long(arena: Arena) -> None:
    """A slow index is asked half of the time at most."""
    watch = await arena.open(arena.worker(heartbeat_s=0.05))
    await anext(watch)
    held = arena.index.held["window"] = asyncio.Event()
    await arena.index.waiting.wait()
    began_s = time.monotonic()
    await upto(watch, lambda _: time.monotonic() - began_s >= 0.4)
    held.set()
    ended_s, asked = time.monotonic(), arena.index.calls["window"]
    await upto(watch, lambda _: arena.index.calls["window"] > asked)

    assert time.monotonic() - ended_s >= ended_s - began_s - 0.05


async def test_the_failure_of_the_first_read_is_the_calls(arena: Arena) -> None:
    """Nobody waits for a board that cannot be read."""
    arena.index.failure = IndexUnavailable()
    worker = arena.worker()
    with pytest.raises(IndexUnavailable):
        await anext(await arena.open(worker))

    assert worker.watch_count == 0


async def test_a_new_season_is_told_and_shown(arena: Arena) -> None:
    """The notice names it, the snapshot is of it, and so are the changes."""
    await arena.submit((1, 10))
    watch = await arena.open(arena.worker())
    await anext(watch)
    await arena.next_season()
    (*_, notice) = await upto(watch, lambda message: message.event is WatchEvent.SEASON_CHANGE)
    snapshot = await anext(watch)
    arena.board = await arena.kept.boards.get("board")
    await arena.submit((2, 7))
    change = await anext(watch)

    assert (notice.meta.season_id, notice.meta.source) == ("s2", Source.DATABASE)
    assert (snapshot.event, snapshot.entries) == (WatchEvent.SNAPSHOT, ())
    assert (snapshot.meta.season_id, snapshot.meta.source) == ("s2", Source.INDEX)
    assert (change.event, shown([change])) == (WatchEvent.CHANGES, {2: (1, 7)})


async def test_a_new_season_may_take_its_time(arena: Arena) -> None:
    """Until the index holds it there are heartbeats, and then the snapshot."""
    watch = await arena.open(arena.worker(heartbeat_s=0.2))
    await anext(watch)
    await arena.next_season(build=False)
    await upto(watch, lambda message: message.event is WatchEvent.SEASON_CHANGE)
    waiting = [await anext(watch), await anext(watch)]
    await arena.kept.build_missing()
    *_, snapshot = await upto(watch, lambda message: message.event is not WatchEvent.HEARTBEAT)

    assert {message.event for message in waiting} == {WatchEvent.HEARTBEAT}
    assert {message.meta.season_id for message in waiting} == {"s2"}
    assert 0 < waiting[0].meta.staleness_ms < waiting[1].meta.staleness_ms
    assert (snapshot.event, snapshot.meta.season_id) == (WatchEvent.SNAPSHOT, "s2")


async def test_a_named_season_ends_the_watch(arena: Arena) -> None:
    """Whoever asked for a season is told that it is over, and nothing more."""
    worker = arena.worker()
    with pytest.raises(SeasonNotFound):
        await anext(await arena.open(worker, season_id="s0"))
    watch = await arena.open(worker, season_id="s1")
    first = await anext(watch)
    await arena.next_season()
    events = [message.event async for message in watch]

    assert first.event is WatchEvent.SNAPSHOT
    assert events[-1] is WatchEvent.SEASON_CHANGE
    assert worker.watch_count == 0


@pytest.mark.parametrize("season_id", ["", "s1"])
async def test_the_last_state_of_a_season_is_told(arena: Arena, season_id: str) -> None:
    """Before the new season, and whatever the interval; nothing has been read in between."""
    worker = arena.worker()
    watches = [
        await arena.open(worker, season_id=season_id, min_interval_ms=interval_ms)
        for interval_ms in (1_500, 60_000)
    ]
    await asyncio.gather(*map(anext, watches))
    asked = arena.index.calls["window"]
    await arena.submit((1, 10))
    await arena.next_season()
    told = await asyncio.gather(
        *(upto(watch, lambda each: each.event is WatchEvent.SEASON_CHANGE) for watch in watches)
    )

    for change, notice in told:
        assert (change.event, shown([change])) == (WatchEvent.CHANGES, {1: (1, 10)})
        assert (change.meta.season_id, notice.meta.season_id) == ("s1", "s2")
    assert arena.index.calls["window"] == asked + 1


async def test_a_deleted_board_ends_the_watch(arena: Arena) -> None:
    """As if it were asked for now."""
    worker = arena.worker()
    watch = await arena.open(worker)
    await anext(watch)
    await arena.kept.boards.delete("board", etag="")
    with pytest.raises(BoardNotFound):
        await upto(watch, lambda _: False)

    assert worker.watch_count == 0
