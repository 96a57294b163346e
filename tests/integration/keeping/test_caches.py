"""The caches of a worker on real stores: nothing that it acknowledged is missing from them.

Time stands still for the caches, so that no answer ever grows too old: only what this worker writes
can end one.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from core.batching import SubmissionBatcher
from core.board_directory import BoardDirectory
from core.clock import SystemClock
from core.errors import EntryNotFound
from core.first_pages import FirstPageLimits, FirstPages
from core.get_entry import GetEntry
from core.hot_entries import HotEntries, HotEntryLimits
from core.list_entries import EntryPage, ListEntries
from core.own_writes import OwnWrites
from core.reading import Reading
from core.submit_scores import SubmitScores
from core.tokens import TokenSigner
from core.types import (
    Board,
    Operator,
    RankedEntry,
    RankMode,
    ReadOptions,
    ScoreRange,
    SortOrder,
    Source,
    Submission,
    SubmitResult,
)
from tests.fakes.making import board_spec, submission
from tests.fixtures.keeping import Kept

pytestmark = pytest.mark.both_engines

USERS = range(1, 25)
ANY = ReadOptions()


class StillClock(SystemClock):
    """A clock by which nothing grows older."""

    def monotonic_s(self) -> float:
        """Always the same moment."""
        return 1.0


@dataclass
class Worker:
    """What one process has: a batcher, the caches it tells, and the same reads without them."""

    kept: Kept
    board: Board
    sources: Counter[Source] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        clock = StillClock()
        own_writes = OwnWrites()
        boards = BoardDirectory(self.kept.boards, clock)
        reading = Reading(
            boards=boards,
            entries=self.kept.index,
            ledger=self.kept.ledger,
            signer=TokenSigner([b"a secret of sixteen bytes or more"]),
            clock=clock,
        )
        self.list_entries = ListEntries(reading)
        self.get_entry = GetEntry(reading)
        self.first_pages = FirstPages(
            self.list_entries,
            boards=boards,
            own_writes=own_writes,
            clock=clock,
            limits=FirstPageLimits(),
        )
        self.hot_entries = HotEntries(
            self.get_entry,
            boards=boards,
            own_writes=own_writes,
            clock=clock,
            limits=HotEntryLimits(),
        )
        self.submit_scores = SubmitScores(
            reading,
            self.kept.index,
            SubmissionBatcher(
                ledger=self.kept.ledger,
                index=self.kept.index,
                boards=boards,
                observer=own_writes,
            ),
        )

    async def submit(self, *submissions: Submission) -> str:
        """Submissions, acknowledged; returns their token."""
        answer = await self.submit_scores(submissions)
        assert all(isinstance(result, SubmitResult) for result in answer.results), answer
        return answer.consistency_token

    async def page(
        self, size: int, options: ReadOptions = ANY, *, cached: bool = True
    ) -> EntryPage:
        """The first page, from memory or not."""
        page = await (self.first_pages if cached else self.list_entries)(
            self.board.spec.board_id,
            page_size=size,
            page_token="",
            start_rank=None,
            scores=ScoreRange(),
            options=options,
        )
        if cached:
            self.sources[page.meta.source] += 1
        return page

    async def entry(
        self, user_id: int, options: ReadOptions = ANY, *, cached: bool = True
    ) -> tuple[RankedEntry, int] | None:
        """A user's entry, from memory or not, and how many there are."""
        reader = self.hot_entries if cached else self.get_entry
        try:
            entry, meta = await reader(self.board.spec.board_id, user_id, options)
        except EntryNotFound:
            return None
        if cached:
            self.sources[meta.source] += 1
        return entry, meta.entry_count


async def new_board(kept: Kept, operator: Operator, order: SortOrder) -> Board:
    """A board whose index is built."""
    board = await kept.boards.create(board_spec(operator=operator, sort_order=order))
    await kept.build.season(board.season.number)
    return board


@pytest.mark.parametrize("order", list(SortOrder))
async def test_no_answer_is_older_than_the_last_acknowledged_write(
    kept: Kept, order: SortOrder
) -> None:
    """Through any history of small boards with many ties, what comes from memory is what a new
    read gives, to the last rank and count.
    """
    worker = Worker(kept, await new_board(kept, Operator.SET, order))
    rng = random.Random(int(order))
    for _ in range(120):
        users = rng.sample(USERS, rng.randint(1, 3))
        await worker.submit(*(submission(user, rng.randint(0, 6)) for user in users))
        for _ in range(3):
            options = ReadOptions(rank_mode=rng.choice(list(RankMode)))
            size, user = rng.choice([1, 2, 5, 30]), rng.choice(USERS)
            page = await worker.page(size, options)
            fresh = await worker.page(size, options, cached=False)

            assert page == replace(fresh, meta=page.meta)
            assert page.meta.entry_count == fresh.meta.entry_count
            assert await worker.entry(user, options) == await worker.entry(
                user, options, cached=False
            )
    assert worker.sources[Source.CACHE] > 100, worker.sources


async def test_reads_beside_writes_show_what_was_acknowledged_before_them(kept: Kept) -> None:
    """Writers and readers at once: with best scores alone, every answer is at least as good as all
    that was acknowledged when it was asked for.
    """
    worker = Worker(kept, await new_board(kept, Operator.BEST, SortOrder.DESCENDING))
    acknowledged: dict[int, int] = {}

    async def write(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            user, score = rng.choice(USERS), rng.randint(0, 10_000)
            await worker.submit(submission(user, score))
            acknowledged[user] = max(score, acknowledged.get(user, 0))

    async def read_pages(seed: int) -> None:
        rng = random.Random(seed)
        while writing:
            # An answer from memory lets nobody else run.
            await asyncio.sleep(0)
            known = dict(acknowledged)
            page = await worker.page(rng.choice([3, 30]))
            shown = [entry.standing.score for entry in page.entries]
            best = sorted(known.values(), reverse=True)[: len(shown)]
            assert all(there >= owed for there, owed in zip(shown, best, strict=False))
            for entry in page.entries:
                assert entry.standing.score >= known.get(entry.standing.user_id, 0)

    async def read_users(seed: int) -> None:
        rng = random.Random(seed)
        while writing:
            # An answer from memory lets nobody else run.
            await asyncio.sleep(0)
            known, user = dict(acknowledged), rng.choice(USERS)
            found = await worker.entry(user)
            assert found is not None or user not in known
            if found is not None:
                score = found[0].standing.score
                assert score >= known.get(user, 0)
                assert found[0].rank > sum(other > score for other in known.values())

    writing = True
    async with asyncio.TaskGroup() as readers:
        for seed in range(4):
            readers.create_task(read_pages(seed))
            readers.create_task(read_users(seed))
        try:
            await asyncio.gather(*(write(seed) for seed in range(6)))
        finally:
            writing = False
    page, fresh = await worker.page(30), await worker.page(30, cached=False)
    assert page == replace(fresh, meta=page.meta)
    assert {entry.standing.user_id: entry.standing.score for entry in page.entries} == acknowledged
    assert worker.sources[Source.CACHE] > 10, worker.sources


async def test_a_token_reaches_past_the_caches_of_another_worker(kept: Kept) -> None:
    """What one worker acknowledged is not known to the other's caches; with the token it is shown
    all the same.
    """
    board = await new_board(kept, Operator.SET, SortOrder.DESCENDING)
    here, there = Worker(kept, board), Worker(kept, board)
    await here.submit(*(submission(user, user) for user in USERS))
    old = await here.page(3), await here.entry(24)
    token = await there.submit(submission(1, 99))

    assert ((await here.page(3)).entries, await here.entry(24)) == (old[0].entries, old[1])
    options = ReadOptions(consistency_token=token)
    page, entry = await here.page(3, options), await here.entry(24, options)

    assert [entry.standing.user_id for entry in page.entries] == [1, 24, 23]
    assert page.meta.source is Source.INDEX
    assert entry is not None
    assert entry[0].rank == 2


async def test_a_write_that_missed_the_index_does_not_stay_hidden(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the healer has brought it nobody can show it; after that no answer is kept from before,
    neither of the user nor of anybody whose rank it changed.
    """
    worker = Worker(kept, await new_board(kept, Operator.SET, SortOrder.DESCENDING))
    await worker.submit(*(submission(user, user) for user in USERS))
    await worker.entry(5)

    async def no_apply(xid: int, changes: object) -> frozenset[tuple[int, int]]:
        raise RuntimeError("no index")

    with monkeypatch.context() as patch:
        patch.setattr(kept.index, "apply", no_apply)
        result = (await worker.submit_scores([submission(5, 99)])).results[0]
    assert isinstance(result, SubmitResult)
    assert not result.indexed
    await worker.entry(5)
    other = await worker.entry(20)
    await kept.catch_up()

    entry = await worker.entry(5)
    moved = await worker.entry(20)

    assert entry is not None
    assert (entry[0].rank, entry[0].standing.score) == (1, 99)
    assert other is not None
    assert moved is not None
    assert moved[0].rank == other[0].rank + 1
