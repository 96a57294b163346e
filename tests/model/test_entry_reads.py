"""Whoever knows the entries says what one sorted list says, about the shards that are asked."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

import sharding.snapshots
import storage.snapshots
from core.clock import SystemClock
from core.errors import IndexUnavailable
from core.ordering import Item
from core.ports import EntryReads, Freshness, IndexView, KeyRange, PageSlice
from core.snapshot_ports import SnapshotSource
from core.snapshots import Snapshot, decode_snapshot, encode_snapshot
from core.types import (
    ALL_SHARDS,
    INT64_MAX,
    AuditNote,
    Board,
    EntryState,
    Operator,
    SortOrder,
    Source,
    shard_of,
)
from sharding.index import RedisIndex
from sharding.router import Router
from sharding.settings import RedisSettings
from sharding.snapshots import RedisSnapshots
from storage import rank_reads, rank_season, rank_writes
from storage.pool import PoolUse, open_pool
from storage.rank_reads import PostgresIndex
from storage.removal import PostgresRemoval
from storage.settings import PostgresSettings
from storage.snapshots import PostgresSnapshots
from tests.fakes.making import board_spec, submission
from tests.fakes.memory_index import MemoryIndex
from tests.fakes.snapshot_making import HeldSnapshots, Row, snapshot_of
from tests.fixtures.keeping import Kept

pytestmark = [pytest.mark.both_postgres, pytest.mark.timeout(300)]

NOTE = AuditNote("test", "test", "test")
ANY = Freshness()
_names = (f"entry-reads-{number}" for number in itertools.count(1))


@dataclass
class Rungs:
    """Everybody who can be asked, on the same stores."""

    kept: Kept
    removal: PostgresRemoval
    snapshots: HeldSnapshots
    database: PostgresIndex
    sources: Sequence[SnapshotSource]
    clock: SystemClock = field(default_factory=SystemClock)


@pytest.fixture
async def rungs(kept: Kept) -> AsyncIterator[Rungs]:
    """The index, the database and snapshots."""
    settings = PostgresSettings(dsn=SecretStr(kept.dsn), read_timeout_ms=10_000)
    async with AsyncExitStack() as stack:
        write, read, jobs = [
            await stack.enter_async_context(open_pool(settings, kept.dsn, use))
            for use in (PoolUse.WRITE, PoolUse.READ, PoolUse.JOBS)
        ]
        snapshots, clock = HeldSnapshots({}), SystemClock()
        redis = RedisSettings(
            nodes=kept.cluster.addresses, operation_timeout_s=5, response_timeout_s=5
        )
        router = Router(redis, rng=random.Random(1))
        await router.open()
        stack.push_async_callback(router.aclose)
        yield Rungs(
            kept,
            PostgresRemoval(settings, write=write, jobs=jobs),
            snapshots,
            PostgresIndex(settings, read, snapshots, clock),
            (
                RedisSnapshots(router, RedisIndex(router), kept.keeping, clock),
                PostgresSnapshots(jobs, kept.history, clock),
            ),
        )


@dataclass
class Scene:
    """A board with entries, and what is right."""

    rungs: Rungs
    board: Board
    memory: MemoryIndex
    dice: random.Random
    score_max: int

    @classmethod
    async def of(
        cls, rungs: Rungs, orders: tuple[SortOrder, SortOrder], score_max: int, seed: int
    ) -> Scene:
        """An empty board."""
        spec = board_spec(
            next(_names),
            sort_order=orders[0],
            subscore_sort_order=orders[1],
            operator=Operator.SET,
        )
        board = await rungs.kept.boards.create(spec)
        await rungs.kept.build_missing()
        await rungs.kept.heal()
        return cls(rungs, board, MemoryIndex(), random.Random(seed), score_max)

    @property
    def season(self) -> int:
        """The season that is played."""
        return self.board.season.number

    @property
    def rows(self) -> list[Row]:
        """The rows of everybody who counts, in order."""
        return sorted((i.key, i.tail) for i in self._items() if i.state is EntryState.LIVE)

    @property
    def users(self) -> list[int]:
        """Everybody with an entry, a hidden one too."""
        return sorted(item.user_id for item in self._items())

    def newcomers(self, count: int) -> list[int]:
        """Users without entries; every third one of the same shard."""
        drawn = {self.dice.randrange(1, INT64_MAX) for _ in range(count)}
        return [user - user % 16 if user % 3 == 0 else user for user in drawn]

    async def submit(self, user_ids: Sequence[int]) -> None:
        """Gives each of these users a new result."""
        items = [
            submission(
                user_id,
                self.dice.randint(-self.score_max, self.score_max),
                self.dice.randint(-1, 1),
                board_id=self.board.spec.board_id,
            )
            for user_id in user_ids
        ]
        for first in range(0, len(items), 512):
            result = await self.rungs.kept.record(self.board, items[first : first + 512])
            for xid, changes in result.changes.items():
                await self.memory.apply(xid, changes)
                assert await self.rungs.kept.index.apply(xid, changes) == frozenset()

    async def hide(self, user_ids: Sequence[int]) -> None:
        """Hides some users."""
        for user_id in user_ids:
            hiding = await self.rungs.removal.hide(user_id, self.board, NOTE)
            for xid, changes in hiding.sweep.changes.items():
                await self.memory.apply(xid, changes)
                await self.rungs.kept.index.apply(xid, changes)

    async def snapshot(self, *, steps: int = 256, top_rows_max: int = 1_000) -> Snapshot:
        """Takes one, of now."""
        point = await self.rungs.kept.history.point()
        snapshot = snapshot_of(
            self.rows,
            season_number=self.season,
            made_ms=self.rungs.clock.now_ms(),
            horizon=point.horizon,
            ledger=point.ledger,
            steps=steps,
            top_rows_max=top_rows_max,
        )
        self.rungs.snapshots.held[self.season] = snapshot
        return snapshot

    def point(self) -> bytes:
        """A key, the place behind one, the beginning of one, or either end."""
        keys = [key for key, _ in self.rows] or [bytes(32)]
        key = self.dice.choice(keys)
        return self.dice.choice([b"", key, key + b"\0", key[:16], key[:8], b"\xff" * 17])

    def shards(self) -> Sequence[int]:
        """All of them, or some."""
        return self.dice.choice(
            [ALL_SHARDS, sorted(self.dice.sample(ALL_SHARDS, self.dice.randint(1, 15)))]
        )

    def _items(self) -> list[Item]:
        return list(self.memory.items.get(self.season, {}).values())


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

    for reads, source in (
        (scene.memory, Source.INDEX),
        (rungs.kept.index, Source.INDEX),
        (rungs.database, Source.DATABASE),
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
    the view says.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank_season, "_HEADS_MAX", 40)
        patch.setattr(rank_reads, "TOP_ROWS_MAX", 20)
        scene = await Scene.of(rungs, orders, score_max, seed)
        users = scene.newcomers(count)
        await scene.submit(users)
        await scene.hide(users[1:9:4])
        snapshot = await scene.snapshot(steps=steps, top_rows_max=scene.dice.choice([1, 20]))
        await scene.submit(users[::7] + scene.newcomers(scene.dice.choice([0, 5])))
        keys = [key for key, _ in scene.rows]
        now = Freshness({0: (snapshot.horizon,)})

        for _ in range(5):
            point = scene.point()
            right = sum(1 for key in keys if key < point)
            counts, view = await rungs.database.count_before(
                scene.season, [point], shards=ALL_SHARDS, fresh=now
            )
            Asked(scene, rungs.database, Source.DATABASE).says(view, ALL_SHARDS, exact=False)
            assert holds(sum(shard[0] for shard in counts), view, right)

            window = await rungs.database.window(
                scene.season, point, above=5, below=5, within=KeyRange(), fresh=now
            )
            assert [key for key, _ in window.above] == keys[max(0, right - 5) : right]
            assert [key for key, _ in window.below] == keys[right : right + 5]
            assert holds(window.before, window.view, right)

            offset = scene.dice.randint(0, len(keys))
            page = await rungs.database.page_at(scene.season, offset=offset, limit=9, fresh=now)
            shown = [key for key, _ in page.entries]
            first = keys.index(shown[0]) if shown else len(keys)
            assert keys[first : first + len(shown)] == shown
            assert holds(page.before, page.view, first)

            user = scene.dice.choice(users)
            entries, view = await rungs.database.users(
                scene.season, [user], cutoff_bytes=32, fresh=now
            )
            own = entries[user]
            before = sum(1 for key in keys if key < own.key and key[-1] % 16 == user % 16)
            assert holds(own.before_in_shard, view, before)
            around = await rungs.database.window_of(scene.season, user, above=1, below=1, fresh=now)
            assert around is not None
            assert around[0].key == own.key
            assert holds(around[1].before, around[1].view, sum(1 for key in keys if key < own.key))
        await rungs.kept.boards.delete(scene.board.spec.board_id, etag="")


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
    """By the token of a write at once, otherwise within 250 ms; and not if too many have been."""
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
