"""Every read gives what one sorted list gives, whichever index is asked (tests/fakes/oracle.py)."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from core.batch_get_entries import BatchGetEntries
from core.board_directory import BoardDirectory
from core.clock import SystemClock
from core.errors import EntryNotFound
from core.estimate_rank import EstimateRank, RankTarget
from core.get_entry import GetEntry
from core.get_percentile import GetPercentile, rank_at
from core.list_entries import EntryPage, ListEntries
from core.list_entries_around import ListEntriesAround
from core.ordering import decode_item, encode_item
from core.ports import Index
from core.reading import Reading
from core.shared_reads import SharedReads
from core.tokens import TokenSigner
from core.types import (
    INT64_MAX,
    Board,
    EntryState,
    EntryView,
    Exactness,
    IndexChange,
    Operator,
    RankedEntry,
    RankMode,
    ReadMeta,
    ReadOptions,
    ScorePoint,
    ScoreRange,
    SortOrder,
    Source,
    shard_of,
)
from tests.fakes.making import board_spec, submission
from tests.fakes.memory_index import MemoryIndex
from tests.fakes.oracle import Oracle, OracleEntry
from tests.fixtures.keeping import Kept

pytestmark = [pytest.mark.both_engines, pytest.mark.timeout(300)]

SIGNER = TokenSigner([b"a secret of the tests"])
NOBODY = 424242
_names = (f"reads-{number}" for number in itertools.count(1))


class HeldClock(SystemClock):
    """Stands still, so that nothing grows old however slow the machine is."""

    def __init__(self) -> None:
        self._now_ms = super().now_ms()

    def now_ms(self) -> int:
        """When it was made."""
        return self._now_ms


@dataclass
class Scene:
    """A board in the ledger, in both indexes and in the oracle, and dice to play with."""

    kept: Kept
    board: Board
    oracle: Oracle
    memory: MemoryIndex
    dice: random.Random
    score_max: int
    clock: HeldClock
    xids: dict[int, int] = field(default_factory=dict)

    @classmethod
    async def of(
        cls, kept: Kept, orders: tuple[SortOrder, SortOrder], score_max: int, seed: int
    ) -> Scene:
        """An empty board; the greater `score_max`, the fewer ties."""
        spec = board_spec(
            next(_names),
            sort_order=orders[0],
            subscore_sort_order=orders[1],
            operator=Operator.SET,
            max_score=score_max,
        )
        board = await kept.boards.create(spec)
        await kept.build_missing()
        await kept.heal()
        dice, clock = random.Random(seed), HeldClock()
        return cls(kept, board, Oracle(spec), MemoryIndex(), dice, score_max, clock)

    @property
    def name(self) -> str:
        """The board's."""
        return self.board.spec.board_id

    @property
    def users(self) -> list[int]:
        """Everybody with an entry."""
        return list(self.oracle.entries)

    def newcomers(self, count: int) -> list[int]:
        """Users without entries; every third one of the same shard."""
        drawn = {self.dice.randrange(1, INT64_MAX) for _ in range(count)}
        return [user - user % 16 if user % 3 == 0 else user for user in drawn]

    def point(self) -> ScorePoint:
        """A result that somebody may have, or nobody."""
        return ScorePoint(self.dice.randint(-1, self.score_max + 1), self.dice.randint(-1, 2))

    def scores(self) -> ScoreRange:
        """A range of scores, open at either end at times, or with nothing in it."""
        ends = [None, None, *range(-1, self.score_max + 2)]
        return ScoreRange(self.dice.choice(ends), self.dice.choice(ends))

    async def submit(self, user_ids: Sequence[int]) -> None:
        """Gives each of these users a new result."""
        items = [
            submission(
                user_id,
                self.dice.randint(0, self.score_max),
                self.dice.randint(0, 1),
                board_id=self.name,
            )
            for user_id in user_ids
        ]
        for item in items:
            self.oracle.submit(item.user_id, item.score, item.subscore)
        if items:
            result = await self.kept.record(self.board, items)
            for xid, changes in result.changes.items():
                await self._apply(xid, changes)

    async def hide(self, user_ids: Sequence[int]) -> None:
        """Hides some users."""
        self.oracle.hidden.update(user_ids)
        for user_id in user_ids:
            changes = []
            for change in await self.kept.history.items(
                shard_of(user_id), [(self.board.season.number, user_id)]
            ):
                item = decode_item(change.item)
                hidden = replace(item, state=EntryState.HIDDEN, revision=item.revision + 1)
                changes.append(replace(change, item=encode_item(hidden)))
            # As if of the shard's last transaction: the healer waits for those of the ledger.
            await self._apply(self.xids[shard_of(user_id)], changes)

    async def _apply(self, xid: int, changes: Sequence[IndexChange]) -> None:
        self.xids |= {change.shard: xid for change in changes}
        await self.memory.apply(xid, changes)
        assert await self.kept.index.apply(xid, changes) == frozenset()

    def asked(self, index: Index) -> Asked:
        """The use cases over an index."""
        boards = BoardDirectory(self.kept.boards, self.clock)
        reading = Reading(
            boards,
            index,
            self.kept.ledger,
            SIGNER,
            self.clock,
            together=SharedReads(lambda: None),
        )
        return Asked(self, reading, ReadOptions())


@dataclass
class Asked:
    """One index, asked everything; each check is of one call."""

    scene: Scene
    reading: Reading
    options: ReadOptions

    @property
    def oracle(self) -> Oracle:
        """What is right."""
        return self.scene.oracle

    @property
    def mode(self) -> RankMode:
        """How equals are numbered."""
        return self.options.rank_mode

    def same(self, shown: Sequence[RankedEntry], right: Sequence[OracleEntry]) -> None:
        """These entries, in this order, with their ranks."""
        assert [told(entry) for entry in shown] == [
            (
                entry.user_id,
                entry.score,
                entry.subscore,
                self.oracle.rank(entry.user_id, self.mode),
                entry.user_id in self.oracle.hidden,
                entry.submission_count if self.options.view is EntryView.FULL else 0,
            )
            for entry in right
        ]

    def says(self, meta: ReadMeta) -> None:
        """What every answer says of itself."""
        assert (meta.source, meta.exactness) == (Source.INDEX, Exactness.EXACT)
        assert meta.entry_count == len(self.oracle.board())
        assert (meta.staleness_ms, meta.season_id) == (0, self.scene.board.season.season_id)

    async def page(
        self,
        scores: ScoreRange,
        page_size: int,
        *,
        start_rank: int | None = None,
        token: str = "",
    ) -> EntryPage:
        """A page; that it has neighbours where it says so is for the walks to see."""
        return await ListEntries(self.reading)(
            self.scene.name,
            page_size=page_size,
            page_token=token,
            start_rank=start_rank,
            scores=scores,
            options=self.options,
        )

    async def check_page(self) -> None:
        """A page from a rank on, and those after and before it."""
        dice, all_of_it = self.scene.dice, self.oracle.board()
        scores = dice.choice([ScoreRange(), self.scene.scores()])
        inside = self.oracle.within(scores)
        page_size = dice.choice([1, 2, 7, 50])
        start_rank = dice.choice([None, 1, 2, dice.randint(1, len(all_of_it) + 3), INT64_MAX])
        page = await self.page(scores, page_size, start_rank=start_rank)
        late = [entry for entry in all_of_it[(start_rank or 1) - 1 :] if entry in inside]
        begin = len(inside) - len(late)
        self.same(page.entries, late[:page_size])
        self.says(page.meta)
        assert bool(page.next_page_token) == (len(late) > page_size)
        assert bool(page.previous_page_token) == (begin > 0)
        if page.next_page_token:
            after = await self.page(scores, page_size + 1, token=page.next_page_token)
            self.same(after.entries, late[page_size : 2 * page_size + 1])
            assert after.previous_page_token
        if page.previous_page_token:
            before = await self.page(scores, page_size + 1, token=page.previous_page_token)
            self.same(before.entries, inside[max(0, begin - page_size - 1) : begin])
            assert bool(before.next_page_token) == bool(late)
            assert bool(before.previous_page_token) == (begin > page_size + 1)

    async def check_around(self) -> None:
        """Around somebody, and around a result."""
        dice = self.scene.dice
        above, below = dice.choice([0, 1, 5, 100]), dice.choice([0, 1, 5, 100])
        around = ListEntriesAround(self.reading)
        for center in [
            self.scene.point(),
            *dice.sample(self.scene.users, min(1, len(self.scene.users))),
        ]:
            viewer = center if isinstance(center, int) else dice.choice([0, *self.scene.users])
            window = await around(
                self.scene.name,
                center,
                above=above,
                below=below,
                options=replace(self.options, viewer_user_id=viewer),
            )
            self.same(window.entries, self.oracle.around(center, above, below))
            self.says(window.meta)

    async def check_users(self) -> None:
        """Somebody, and a list of users, with and without hidden and missing ones."""
        dice, users = self.scene.dice, self.scene.users
        viewer = dice.choice([0, *self.oracle.hidden, *users[:1]])
        options = replace(self.options, viewer_user_id=viewer)
        some = dice.sample(users, dice.randint(0, min(40, len(users))))
        asked = dice.choice([[], [NOBODY], list(dict.fromkeys([*some, NOBODY, viewer or 7]))])
        found = [
            user
            for user in asked
            if user in users and (user == viewer or user not in self.oracle.hidden)
        ]
        answer = await BatchGetEntries(self.reading)(self.scene.name, asked, options)
        ranks = self.oracle.list_ranks(found, self.mode)
        self.same(answer.entries, [self.oracle.entries[user] for user, _ in ranks])
        assert [entry.list_rank for entry in answer.entries] == [rank for _, rank in ranks]
        assert list(answer.missing_user_ids) == [user for user in asked if user not in found]
        self.says(answer.meta)
        for user in found[:2]:
            entry, meta = await GetEntry(self.reading)(self.scene.name, user, options)
            self.same([entry], [self.oracle.entries[user]])
            self.says(meta)

    async def check_estimate(self) -> None:
        """What a result is worth, and what it takes to rise."""
        dice, all_of_it = self.scene.dice, self.oracle.board()
        point = self.scene.point()
        target_rank = dice.choice([1, dice.randint(1, len(all_of_it) + 3), INT64_MAX])
        target_percent = dice.choice([0.1, 7.0, 33.3, 50.0, 100.0])
        answer = await EstimateRank(self.reading)(
            self.scene.name,
            point,
            target_rank=target_rank,
            target_percent=target_percent,
            options=self.options,
        )
        self.says(answer.meta)
        assert answer.rank == self.oracle.estimate(point, self.mode)
        ranks = {self.oracle.rank(entry.user_id, self.mode) for entry in all_of_it}
        next_rank = max((rank for rank in ranks if rank < answer.rank), default=None)
        percent_rank = rank_at(target_percent, len(all_of_it)) or None
        assert answer.next == self.target(point, next_rank)
        assert answer.for_rank == self.target(point, target_rank)
        assert answer.for_percent == self.target(point, percent_rank)

    def target(self, point: ScorePoint, rank: int | None) -> RankTarget | None:
        """What the oracle finds by trying."""
        if rank is None:
            return None
        holder = self.oracle.board()[rank - 1 : rank]
        steps = 2 * self.scene.score_max + 5
        needed = self.oracle.score_needed(point, rank, self.mode, steps)
        return RankTarget(
            rank=rank,
            score=holder[0].score if holder else None,
            subscore=holder[0].subscore if holder else None,
            score_needed=needed,
            score_gap=0 if needed is None else abs(needed - point.score),
            reached=self.oracle.estimate(point, self.mode) <= rank,
        )

    async def check_percentile(self) -> None:
        """Both ways."""
        all_of_it, point = self.oracle.board(), self.scene.point()
        percentile = GetPercentile(self.reading)
        of_point = await percentile(self.scene.name, point, self.options)
        as_good = self.oracle.estimate(point, RankMode.ORDINAL) - 1
        assert (of_point.rank, of_point.point) == (as_good, point)
        assert of_point.percent == (100 * as_good / len(all_of_it) if all_of_it else 0)
        self.says(of_point.meta)
        percent = self.scene.dice.choice([0.001, 7.0, 50.0, 99.9, 100.0])
        at_percent = await percentile(self.scene.name, percent, self.options)
        enough = [n for n in range(1, len(all_of_it) + 1) if 100 * n >= percent * len(all_of_it)]
        assert (at_percent.percent, at_percent.rank) == (percent, min(enough, default=0))
        right = [ScorePoint(entry.score, entry.subscore) for entry in all_of_it]
        assert at_percent.point == (right[at_percent.rank - 1] if right else None)
        self.says(at_percent.meta)


def told(entry: RankedEntry) -> tuple[int, int, int, int, bool, int]:
    """What of an entry is compared."""
    one = entry.standing
    result = one.score, one.subscore
    return one.user_id, *result, entry.rank, entry.hidden, one.submission_count


_orders = st.tuples(st.sampled_from(SortOrder), st.sampled_from(SortOrder))
_boards = {
    "orders": _orders,
    "score_max": st.sampled_from([0, 2, 12]),
    "count": st.integers(0, 5) | st.integers(0, 300),
    "seed": st.integers(0, 2**32),
}
_settings = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
_BEST_FIRST = (SortOrder.DESCENDING, SortOrder.DESCENDING)
_FEWEST_FIRST = (SortOrder.ASCENDING, SortOrder.DESCENDING)


@example(orders=_BEST_FIRST, score_max=0, count=300, seed=1)
@example(orders=_FEWEST_FIRST, score_max=2, count=1, seed=2)
@example(orders=_BEST_FIRST, score_max=2, count=0, seed=3)
@given(**_boards)
@_settings
async def test_every_read_equals_the_sorted_list(
    kept: Kept, orders: tuple[SortOrder, SortOrder], score_max: int, count: int, seed: int
) -> None:
    """Pages, surroundings, lists, estimates and percentiles, in both rank modes."""
    scene = await Scene.of(kept, orders, score_max, seed)
    users = scene.newcomers(count)
    await scene.submit(users)
    await scene.submit(users[::5])
    await scene.hide(users[1:30:10])

    for index in (scene.memory, kept.index):
        for mode, view in itertools.product(RankMode, EntryView):
            asked = replace(scene.asked(index), options=ReadOptions(rank_mode=mode, view=view))
            await asked.check_page()
            await asked.check_around()
            await asked.check_users()
            await asked.check_estimate()
            await asked.check_percentile()
    with pytest.raises(EntryNotFound):
        await GetEntry(asked.reading)(scene.name, NOBODY, ReadOptions())
    await kept.boards.delete(scene.name, etag="")


@pytest.mark.parametrize("direction", ["forward", "backward"])
@example(orders=_BEST_FIRST, score_max=2, count=300, seed=1)
@given(**_boards)
@_settings
async def test_a_walk_meets_everybody_that_did_not_move_once(
    kept: Kept,
    direction: str,
    orders: tuple[SortOrder, SortOrder],
    score_max: int,
    count: int,
    seed: int,
) -> None:
    """Forward and backward, while others move, come, and are hidden between two pages."""
    scene = await Scene.of(kept, orders, score_max, seed)
    users = scene.newcomers(count)
    await scene.submit(users)
    movers = users[::3]
    scores = scene.dice.choice([ScoreRange(), scene.scores()])
    asked = scene.asked(scene.dice.choice([scene.memory, kept.index, kept.index]))

    met: Counter[int] = Counter()
    page = await asked.page(scores, 10, start_rank=count + 100 if direction == "backward" else None)
    while True:
        asked.same(
            page.entries,
            [scene.oracle.entries[entry.standing.user_id] for entry in page.entries],
        )
        met.update(entry.standing.user_id for entry in page.entries)
        token = page.previous_page_token if direction == "backward" else page.next_page_token
        if not token:
            break
        await scene.submit(scene.dice.sample(movers, len(movers) // 4) + scene.newcomers(2))
        page = await asked.page(scores, scene.dice.choice([1, 10, 40]), token=token)

    still = {entry.user_id for entry in scene.oracle.within(scores)} & set(users) - set(movers)
    assert {user: met[user] for user in still} == dict.fromkeys(still, 1)
    assert set(met) <= set(scene.users)
    await kept.boards.delete(scene.name, etag="")
