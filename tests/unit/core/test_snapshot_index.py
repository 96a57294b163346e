"""The last rung tells what a snapshot holds, and of everything else that it cannot."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.errors import IndexUnavailable, ReadBehind
from core.ports import Freshness, IndexView, KeyRange
from core.snapshot_index import SnapshotIndex
from core.types import ALL_SHARDS, Board, EntryState, Season, Source, shard_of
from tests.fakes.held import HeldClock
from tests.fakes.making import board_spec
from tests.fakes.memory_index import MemoryIndex
from tests.fakes.snapshot_making import HeldSnapshots, snapshot_of

ANY = Freshness()
BOARD = Board(1, board_spec(), Season(1, "s1"), 1, 0, 0)


@dataclass
class Scene:
    """A board, its snapshot, and dice."""

    memory: MemoryIndex
    index: SnapshotIndex
    snapshots: HeldSnapshots
    clock: HeldClock
    dice: random.Random
    users: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, count: int, top_rows_max: int, seed: int) -> Scene:
        """A board of so many users."""
        dice, memory, clock = random.Random(seed), MemoryIndex(), HeldClock()
        users = sorted({dice.randrange(1, 2**63) for _ in range(count)})
        for arrival, user in enumerate(users):
            state = EntryState.HIDDEN if dice.random() < 0.1 else EntryState.LIVE
            memory.put(BOARD, (user, dice.randint(0, 9), 0), arrival=arrival, state=state)
        rows = memory.rows(1)
        snapshot = snapshot_of(rows, made_ms=clock.ms, horizon=50, top_rows_max=top_rows_max)
        snapshots = HeldSnapshots({1: snapshot})
        return cls(memory, SnapshotIndex(snapshots, clock), snapshots, clock, dice, users)

    @property
    def rows(self) -> list[tuple[bytes, bytes]]:
        """Everybody who counts."""
        return self.memory.rows(1)

    def point(self) -> bytes:
        """A key, the place behind one, the beginning of one, or either end."""
        key = self.dice.choice([key for key, _ in self.rows] or [bytes(32)])
        return self.dice.choice([b"", key, key + b"\0", key[:16], b"\xff" * 17])

    def says(self, view: IndexView, shards: object) -> None:
        """What every answer says of itself."""
        assert (view.source, view.snapshot_ms) == (Source.SNAPSHOT, self.clock.ms)
        assert view.missing == frozenset(shards)


_boards = {
    "count": st.integers(0, 80),
    "top_rows_max": st.sampled_from([1, 10, 1_000]),
    "seed": st.integers(0, 2**32),
}


@example(count=80, top_rows_max=1_000, seed=1)
@given(**_boards)
async def test_what_it_answers_is_right(count: int, top_rows_max: int, seed: int) -> None:
    """Windows and pages of the first entries, for any shards; more than it has is unavailable."""
    scene = Scene.of(count, top_rows_max, seed)
    whole = len(scene.rows) < top_rows_max
    shards = scene.dice.choice([ALL_SHARDS, [2, 3, 11]])
    asked = {
        "above": scene.dice.choice([0, 1, 5, 40]),
        "below": scene.dice.choice([0, 1, 5, 40]),
        "within": scene.dice.choice([KeyRange(), KeyRange(scene.point(), scene.point())]),
        "fresh": ANY,
        "shards": shards,
    }
    point = scene.point()
    right = await scene.memory.window(1, point, **asked)
    try:
        window = await scene.index.window(1, point, **asked)
    except IndexUnavailable:
        assert not whole
    else:
        assert window.before == right.before
        assert (list(window.above), list(window.below)) == (list(right.above), list(right.below))
        scene.says(window.view, shards)

    offset, limit = scene.dice.randint(0, count + 2), scene.dice.choice([1, 5, 100])
    page = await scene.memory.page_at(1, offset=offset, limit=limit, fresh=ANY)
    if whole or offset + limit <= min(top_rows_max, len(scene.rows)):
        told = await scene.index.page_at(1, offset=offset, limit=limit, fresh=ANY)
        assert (told.before, list(told.entries)) == (page.before, list(page.entries))
        assert told.view.entry_count == page.view.entry_count
        scene.says(told.view, ALL_SHARDS)
    else:
        with pytest.raises(IndexUnavailable):
            await scene.index.page_at(1, offset=offset, limit=limit, fresh=ANY)


@given(**_boards)
async def test_only_users_among_the_first_are_known(
    count: int, top_rows_max: int, seed: int
) -> None:
    """Hidden ones, those further down and those who do not exist cannot be told apart."""
    scene = Scene.of(count, top_rows_max, seed)
    shown = [int.from_bytes(key[-8:], "big") for key, _ in scene.rows[:top_rows_max]]
    some = scene.dice.sample(shown, min(len(shown), 5))
    if some:
        right, _ = await scene.memory.users(1, some, cutoff_bytes=16, fresh=ANY)
        found, view = await scene.index.users(1, some, cutoff_bytes=16, fresh=ANY)
        assert dict(found) == dict(right)
        scene.says(view, map(shard_of, some))
        for user in some[:2]:
            wanted = {"above": 2, "below": 2, "fresh": ANY}
            try:
                around = await scene.index.window_of(1, user, **wanted)
            except IndexUnavailable:
                assert count >= top_rows_max
            else:
                answer = await scene.memory.window_of(1, user, **wanted)
                assert around is not None
                assert answer is not None
                assert around[0] == answer[0]
                assert replace(around[1], view=answer[1].view) == answer[1]
    unknown = [user for user in scene.users if user not in shown] or [424242]
    with pytest.raises(IndexUnavailable) as caught:
        await scene.index.users(1, [*some, unknown[0]], cutoff_bytes=32, fresh=ANY)
    assert caught.value.shards == {shard_of(unknown[0])}


@given(**_boards)
async def test_counts_are_within_what_is_said(count: int, top_rows_max: int, seed: int) -> None:
    """Of any place, in any shards."""
    scene = Scene.of(count, top_rows_max, seed)
    shards = scene.dice.choice([ALL_SHARDS, [2, 3, 11]])
    cutoffs = [scene.point() for _ in range(3)]
    right, _ = await scene.memory.count_before(1, cutoffs, shards=shards, fresh=ANY)
    counts, view = await scene.index.count_before(1, cutoffs, shards=shards, fresh=ANY)
    scene.says(view, shards)
    for place in range(len(cutoffs)):
        told = sum(shard[place] for shard in counts)
        assert told - view.fewer <= sum(shard[place] for shard in right) <= told + view.more


async def test_an_old_snapshot_is_not_told() -> None:
    """Nor is a season without one."""
    scene = Scene.of(5, 1_000, 1)
    scene.clock.ms += 300_000
    await scene.index.page_at(1, offset=0, limit=1, fresh=ANY)
    scene.clock.ms += 1
    for season in (1, 2):
        with pytest.raises(IndexUnavailable) as caught:
            await scene.index.page_at(season, offset=0, limit=1, fresh=ANY)
        assert caught.value.shards == frozenset(ALL_SHARDS)


async def test_a_write_that_may_be_missing_is_waited_for() -> None:
    """Everything below the horizon is in it; whether anything else is, nobody knows."""
    scene = Scene.of(5, 1_000, 1)
    behind = Freshness({3: (49, 50), 4: (49,)})
    shown = Freshness({3: (49,)})

    await scene.index.page_at(1, offset=0, limit=1, fresh=shown)
    with pytest.raises(ReadBehind) as caught:
        await scene.index.page_at(1, offset=0, limit=1, fresh=behind)
    assert caught.value.shards == {3}
    scene.snapshots.held[1] = replace(scene.snapshots.held[1], horizon=0)
    with pytest.raises(ReadBehind):
        await scene.index.page_at(1, offset=0, limit=1, fresh=shown)
