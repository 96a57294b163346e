"""Whoever knows the entries says what one sorted list says, about the shards that are asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import sharding.snapshots
import storage.snapshots
from core.errors import IndexUnavailable
from core.ports import EntryReads, Freshness, IndexView, KeyRange, PageSlice
from core.snapshots import decode_snapshot, encode_snapshot
from core.types import (
    ALL_SHARDS,
    INT64_MAX,
    SortOrder,
    Source,
    shard_of,
)
from storage import rank_reads, rank_season, rank_writes
from tests.fixtures.rungs import Rungs, Scene

pytestmark = [pytest.mark.both_postgres, pytest.mark.timeout(300)]

ANY = Freshness()


@dataclass
class Asked:
    """One of those who know, held against another one who is right."""

    scene: Scene
    reads: EntryReads
    source: Source

    def says(self, view: IndexView, shards: Sequence[int], *, exact: bool = True) -> None:
        """What every answer says of itself."""
        count = sum(1 for key, _ in self.scene.rows if key[-1] % 16 in shards)
        assert view.source is self.source
        if exact:
            assert (view.entry_count, view.fewer, view.more) == (count, 0, 0)
        if self.source is not Source.INDEX:
            assert view.missing == frozenset(shards)

    async def check_users(self, user_ids: Sequence[int]) -> None:
        """Entries and their places, in either rank mode."""
        for cutoff_bytes in (16, 32):
            asked = {"cutoff_bytes": cutoff_bytes, "fresh": ANY}
            right, _ = await self.scene.memory.users(self.scene.season, user_ids, **asked)
            found, view = await self.reads.users(self.scene.season, user_ids, **asked)
            assert dict(found) == dict(right)
            self.says(view, sorted(set(map(shard_of, user_ids))))

    async def check_counts(self) -> None:
        """Counts in some shards."""
        shards = self.scene.shards()
        cutoffs = [self.scene.point() for _ in range(self.scene.dice.randint(0, 5))]
        asked = {"shards": shards, "fresh": ANY}
        right, _ = await self.scene.memory.count_before(self.scene.season, cutoffs, **asked)
        counts, view = await self.reads.count_before(self.scene.season, cutoffs, **asked)
        assert [list(shard) for shard in counts] == right
        self.says(view, shards)

    async def check_window(self) -> None:
        """Rows around a point, within a range, in some shards."""
        shards = self.scene.shards()
        sides = [0, 1, 5, 40]
        asked = {
            "above": self.scene.dice.choice(sides),
            "below": self.scene.dice.choice(sides),
            "within": self.scene.dice.choice(
                [KeyRange(), KeyRange(self.scene.point(), self.scene.point())]
            ),
            "fresh": ANY,
            "shards": shards,
        }
        point = self.scene.point()
        right = await self.scene.memory.window(self.scene.season, point, **asked)
        window = await self.reads.window(self.scene.season, point, **asked)
        assert (list(window.above), list(window.below)) == (list(right.above), list(right.below))
        assert window.before == right.before
        self.says(window.view, shards)

    async def check_around(self, user_id: int) -> None:
        """Rows around a user, who may be hidden, or nobody."""
        asked = {
            "above": self.scene.dice.choice([0, 3, 50]),
            "below": self.scene.dice.choice([0, 3, 50]),
            "fresh": ANY,
        }
        right = await self.scene.memory.window_of(self.scene.season, user_id, **asked)
        found = await self.reads.window_of(self.scene.season, user_id, **asked)
        if right is None or found is None:
            assert found == right
            return
        (entry, window), (right_entry, right_window) = found, right
        assert entry == right_entry
        assert window.before == right_window.before
        assert list(window.above) == list(right_window.above)
        assert list(window.below) == list(right_window.below)
        self.says(window.view, ALL_SHARDS)

    async def check_page(self) -> None:
        """A page from the start or further down, or behind the end."""
        offset = self.scene.dice.choice([0, self.scene.dice.randint(0, len(self.scene.rows) + 5)])
        limit = self.scene.dice.choice([1, 10, 400])
        asked = {"offset": offset, "limit": limit, "fresh": ANY}
        right = await self.scene.memory.page_at(self.scene.season, **asked)
        page = await self.reads.page_at(self.scene.season, **asked)
        assert (page.before, list(page.entries)) == (right.before, list(right.entries))
        self.says(page.view, ALL_SHARDS)


_boards = {
    "orders": st.tuples(st.sampled_from(SortOrder), st.sampled_from(SortOrder)),
    "score_max": st.sampled_from([0, 2, 12, INT64_MAX]),
    "count": st.integers(0, 5) | st.integers(0, 200),
    "snapshots": st.sampled_from(["none", "one"]),
    "seed": st.integers(0, 2**32),
}
_settings = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_DOWN = (SortOrder.DESCENDING, SortOrder.DESCENDING)
_MIXED = (SortOrder.DESCENDING, SortOrder.ASCENDING)


@example(orders=_DOWN, score_max=0, count=200, snapshots="one", seed=1)
@example(orders=_DOWN, score_max=2, count=0, snapshots="none", seed=2)
@given(**_boards)
@_settings
async def test_every_rung_equals_the_sorted_list(
    rungs: Rungs,
    orders: tuple[SortOrder, SortOrder],
    score_max: int,
    count: int,
    snapshots: str,
    seed: int,
) -> None:
    """Users, counts, windows and pages of a board that is small enough to be counted."""
    scene = await Scene.of(rungs, orders, score_max, seed)
    users = scene.newcomers(count)
    await scene.submit(users)
    await scene.submit(users[::5])
    await scene.hide(users[1:9:4])
    if snapshots == "one":
        await scene.snapshot()
    await rungs.follow()

    for reads, source in (
        (scene.memory, Source.INDEX),
        (rungs.kept.index, Source.INDEX),
        (rungs.database, Source.DATABASE),
        (rungs.replica, Source.DATABASE),
    ):
        asked = Asked(scene, reads, source)
        for _ in range(3):
            some = scene.dice.sample(scene.users, min(len(users), scene.dice.choice([1, 30])))
            await asked.check_users([*some, 424242])
            await asked.check_counts()
            await asked.check_window()
            await asked.check_page()
            await asked.check_around(scene.dice.choice([*some, 424242]))
    await rungs.kept.boards.delete(scene.board.spec.board_id, etag="")


@example(orders=_DOWN, score_max=12, count=200, steps=3, seed=1)
@example(orders=_MIXED, score_max=0, count=30, steps=1, seed=341)
@example(orders=_MIXED, score_max=0, count=31, steps=1, seed=4)
@given(
    orders=_boards["orders"],
    score_max=_boards["score_max"],
    count=st.integers(30, 200),
    steps=st.sampled_from([1, 3, 256]),
    seed=st.integers(0, 2**32),
)
@_settings
async def test_the_database_tells_bounds_that_hold(
    rungs: Rungs,
    orders: tuple[SortOrder, SortOrder],
    score_max: int,
    count: int,
    steps: int,
    seed: int,
) -> None:
    """Far down a board that was written to since the snapshot: rows are exact, counts within what
    the view says; also on a replica that has followed, with the primary or without.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank_season, "_HEADS_MAX", 40)
        patch.setattr(rank_reads, "TOP_ROWS_MAX", 20)
        # So few that the end of the board may be out of reach.
        patch.setattr(rank_reads, "_SKIP_MAX", 2 if count % 2 else 1_000)
        scene = await Scene.of(rungs, orders, score_max, seed)
        users = scene.newcomers(count)
        await scene.submit(users)
        await scene.hide(users[1:9:4])
        snapshot = await scene.snapshot(steps=steps, top_rows_max=scene.dice.choice([1, 20]))
        grown = scene.dice.choice([0, 60 if count % 2 else 5])
        await scene.submit(users[::7] + scene.newcomers(grown))
        await rungs.follow()

        for reads in (rungs.database, rungs.replica, rungs.alone):
            for _ in range(5):
                await check_bounds(scene, reads, users, Freshness({0: (snapshot.horizon,)}))
        await rungs.kept.boards.delete(scene.board.spec.board_id, etag="")


async def check_bounds(
    scene: Scene, reads: EntryReads, users: Sequence[int], now: Freshness
) -> None:
    """Holds what is told roughly against what is right."""
    keys = [key for key, _ in scene.rows]
    point = scene.point()
    right = sum(1 for key in keys if key < point)
    counts, view = await reads.count_before(scene.season, [point], shards=ALL_SHARDS, fresh=now)
    Asked(scene, reads, Source.DATABASE).says(view, ALL_SHARDS, exact=False)
    assert holds(sum(shard[0] for shard in counts), view, right)

    window = await reads.window(scene.season, point, above=5, below=5, within=KeyRange(), fresh=now)
    assert [key for key, _ in window.above] == keys[max(0, right - 5) : right]
    assert [key for key, _ in window.below] == keys[right : right + 5]
    assert holds(window.before, window.view, right)

    offset = scene.dice.randint(0, len(keys))
    page = await reads.page_at(scene.season, offset=offset, limit=9, fresh=now)
    shown = [key for key, _ in page.entries]
    first = keys.index(shown[0]) if shown else len(keys)
    assert keys[first : first + len(shown)] == shown
    assert holds(page.before, page.view, first)

    user = scene.dice.choice(users)
    entries, view = await reads.users(scene.season, [user], cutoff_bytes=32, fresh=now)
    own = entries[user]
    before = sum(1 for key in keys if key < own.key and key[-1] % 16 == user % 16)
    assert holds(own.before_in_shard, view, before)
    around = await reads.window_of(scene.season, user, above=1, below=1, fresh=now)
    assert around is not None
    assert around[0].key == own.key
    assert holds(around[1].before, around[1].view, sum(1 for key in keys if key < own.key))


def holds(told: int, view: IndexView, right: int) -> bool:
    """Whether a count is as near as the view says."""
    return told - view.fewer <= right <= told + view.more


async def test_a_large_board_without_a_snapshot_is_not_counted(rungs: Rungs) -> None:
    """Nobody knows how many there are, and counting them all is what the rung must not do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank_season, "_HEADS_MAX", 40)
        patch.setattr(rank_reads, "TOP_ROWS_MAX", 20)
        scene = await Scene.of(rungs, _DOWN, 9, 1)
        await scene.submit(scene.newcomers(100))

        for offset in (0, 10, 50):
            with pytest.raises(IndexUnavailable):
                await rungs.database.page_at(scene.season, offset=offset, limit=15, fresh=ANY)
        with pytest.raises(IndexUnavailable):
            await rungs.database.count_before(scene.season, [b"\xff"], shards=ALL_SHARDS, fresh=ANY)


async def test_a_replica_does_not_count_by_a_snapshot_that_it_is_behind(rungs: Rungs) -> None:
    """What it lacks of the snapshot is in no bounds of it; small boards it counts by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank_season, "_HEADS_MAX", 10)
        scene = await Scene.of(rungs, _DOWN, 9, 1)
        await scene.submit(range(1, 101))
        await rungs.follow()
        await rungs.standby.pause()
        try:
            await scene.submit(range(101, 120))
            await scene.snapshot()
            await rungs.watch.look()
            for reads in (rungs.replica, rungs.alone):
                with pytest.raises(IndexUnavailable):
                    await reads.count_before(scene.season, [b"\xff"], shards=[1, 2], fresh=ANY)
                counts, _ = await reads.count_before(scene.season, [b"\xff"], shards=[1], fresh=ANY)
                assert counts == [[7]]
        finally:
            await rungs.standby.resume()
        await rungs.follow()
        for reads in (rungs.replica, rungs.alone):
            counts, view = await reads.count_before(
                scene.season, [b"\xff"], shards=[1, 2], fresh=ANY
            )
            assert holds(sum(count for (count,) in counts), view, 16)


async def test_a_shard_without_a_whole_order_is_not_told(rungs: Rungs) -> None:
    """The others are, when they are asked without it."""
    scene = await Scene.of(rungs, _DOWN, 9, 1)
    await scene.submit(range(1, 100))
    await rungs.kept.execute("update entries set rank_key = null where user_id in (3, 20)")

    with pytest.raises(IndexUnavailable) as caught:
        await rungs.database.count_before(scene.season, [b"\xff"], shards=[1, 3, 4], fresh=ANY)
    assert caught.value.shards == {3, 4}
    counts, _ = await rungs.database.count_before(scene.season, [b"\xff"], shards=[1, 5], fresh=ANY)
    assert [list(shard) for shard in counts] == [[7], [6]]


async def test_what_was_written_through_is_counted_into_the_bounds(rungs: Rungs) -> None:
    """By the token of a write at once, otherwise soon; and not if too many have been."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank_season, "_HEADS_MAX", 4)
        scene = await Scene.of(rungs, _DOWN, 9, 1)
        await scene.submit(range(1, 200))
        snapshot = await scene.snapshot()
        _, view = await rungs.database.count_before(
            scene.season, [b"\xff"], shards=[1], fresh=Freshness()
        )
        await scene.submit([1, 17, 2])

        _, later = await rungs.database.count_before(
            scene.season, [b"\xff"], shards=[1], fresh=Freshness({1: (snapshot.horizon,)})
        )
        assert ((view.fewer, view.more), (later.fewer, later.more)) == ((0, 0), (2, 2))

        patch.setattr(rank_writes, "_TRANSACTIONS_MAX", 1)
        with pytest.raises(IndexUnavailable):
            await rungs.database.count_before(
                scene.season, [b"\xff"], shards=[1], fresh=Freshness({1: (snapshot.horizon,)})
            )


async def test_readers_beyond_the_bulkhead_are_refused_at_once(rungs: Rungs) -> None:
    """Twenty-four are taken in; nobody else waits."""
    scene = await Scene.of(rungs, _DOWN, 9, 1)
    await scene.submit(range(1, 50))

    answers = await asyncio.gather(
        *(rungs.database.page_at(scene.season, offset=0, limit=10, fresh=ANY) for _ in range(40)),
        return_exceptions=True,
    )

    refused = [answer for answer in answers if isinstance(answer, IndexUnavailable)]
    assert len(refused) == 16
    assert all(isinstance(answer, PageSlice | IndexUnavailable) for answer in answers)


@example(orders=_DOWN, score_max=2, count=400, seed=1)
@given(
    orders=_boards["orders"],
    score_max=_boards["score_max"],
    count=st.integers(0, 400),
    seed=st.integers(0, 2**32),
)
@settings(parent=_settings, max_examples=5)
async def test_snapshots_of_both_stores_are_right(
    rungs: Rungs, orders: tuple[SortOrder, SortOrder], score_max: int, count: int, seed: int
) -> None:
    """They hold the truth, and go on holding it by the writes since their horizon."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (sharding.snapshots, storage.snapshots):
            patch.setattr(module, "STEPS", 8)
            patch.setattr(module, "TOP_ROWS_MAX", 20)
        patch.setattr(rank_season, "_HEADS_MAX", 16)
        scene = await Scene.of(rungs, orders, score_max, seed)
        users = scene.newcomers(count)
        await scene.submit(users)
        await scene.hide(users[1:9:4])
        for source in rungs.sources:
            keys = [key for key, _ in scene.rows]
            snapshot = await source.take(scene.season)
            assert decode_snapshot(encode_snapshot(snapshot)) == snapshot
            assert snapshot.entry_count() == len(keys)
            assert list(snapshot.top.rows) == scene.rows[:20]
            assert all(
                snapshot.shard_count(shard) == sum(1 for key in keys if key[-1] % 16 == shard)
                for shard in ALL_SHARDS
            )
            for _ in range(10):
                cutoff = scene.point()
                right = sum(1 for key in keys if key < cutoff)
                bounds = [snapshot.bounds(cutoff, shard) for shard in ALL_SHARDS]
                assert sum(low for low, _ in bounds) <= right <= sum(high for _, high in bounds)
                assert all(high - low <= count / 16 + 8 for low, high in bounds)

            rungs.snapshots.held[scene.season] = snapshot
            await scene.submit(users[::9])
            keys = [key for key, _ in scene.rows]
            cutoff = scene.point()
            counts, view = await rungs.database.count_before(
                scene.season, [cutoff], shards=ALL_SHARDS, fresh=Freshness({0: (1,)})
            )
            right = sum(1 for key in keys if key < cutoff)
            assert holds(sum(shard[0] for shard in counts), view, right)
        await rungs.kept.boards.delete(scene.board.spec.board_id, etag="")
