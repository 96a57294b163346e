"""Removals on real stores: the index shows at once what PostgreSQL holds, and goes on doing so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from core.board_directory import BoardDirectory
from core.clock import SystemClock
from core.delete_entry import DeleteEntry, EntryDeleted
from core.errors import BoardNotFound, EntryNotFound, SeasonNotFound, UserBeingDeleted
from core.flushes import FlushResult
from core.index_removals import IndexRemovals
from core.moderate_users import ModerateUsers
from core.ordering import Ordering
from core.ports import Freshness
from core.tokens import TokenSigner
from core.types import (
    Board,
    Erasure,
    Operator,
    Outcome,
    Recorded,
    Submission,
    shard_of,
)
from jobs.finish_removals import FinishRemovals
from storage.pool import open_pool
from storage.removal import PostgresRemoval
from storage.sessions import PoolUse
from storage.settings import PostgresSettings
from storage.unfinished_removals import PostgresUnfinishedRemovals
from tests.fakes.making import board_spec, submission, submission_id
from tests.fakes.oracle import Oracle
from tests.fixtures.keeping import Kept
from tests.fixtures.redis import empty

pytestmark = pytest.mark.both_engines

USER = 21


@dataclass
class Moderated:
    """The use cases of removal on both stores. `forgotten`: the seasons that caches let go of."""

    kept: Kept
    users: ModerateUsers
    delete_entry: DeleteEntry
    job: FinishRemovals
    signer: TokenSigner
    forgotten: list[int] = field(default_factory=list)

    async def board(self, board_id: str = "board") -> Board:
        """A board whose season is in the index."""
        board = await self.kept.boards.create(board_spec(board_id, operator=Operator.SET))
        await self.kept.build.season(board.season.number)
        return board

    async def submit(self, board: Board, *results: tuple[int, int]) -> FlushResult:
        """Records and applies (user_id, score) pairs."""
        board_id = board.spec.board_id
        submissions = [submission(user, score, board_id=board_id) for user, score in results]
        flush = await self.kept.record(board, submissions)
        await self.kept.apply(flush)
        return flush

    async def delete(self, board: Board, user_id: int, id_: str = "") -> EntryDeleted:
        """Deletes an entry."""
        return await self.delete_entry(
            board.spec.board_id,
            user_id,
            season_id="",
            submission_id=id_ or submission_id(),
            digest=b"delete",
        )

    async def shown(self, board: Board) -> Sequence[tuple[int, int]]:
        """The (user_id, score) pairs that the index shows, best first."""
        ordering = Ordering.of(board.spec)
        standings = [ordering.standing(key, bytes(6)) for key in await self.kept.shown(board)]
        return [(standing.user_id, standing.score) for standing in standings]

    async def run_job(self) -> None:
        """One run of the job, and the time until the next step is due."""
        await self.job()
        await self.kept.execute("update user_sweeps set seen_time = seen_time - interval '1 hour'")

    async def finish(self) -> None:
        """Lets the job come to its end."""
        async with asyncio.timeout(30):
            while await self.kept.execute(
                "select user_id from user_sweeps union "
                "select user_id from user_deletions where complete_time is null"
            ):
                await self.run_job()


@pytest.fixture
async def moderated(kept: Kept) -> AsyncIterator[Moderated]:
    """Removal on an empty ledger and an empty index."""
    settings = PostgresSettings(
        dsn=SecretStr(kept.dsn), write_timeout_ms=10_000, lock_timeout_ms=10_000
    )
    async with AsyncExitStack() as stack:
        write, jobs = [
            await stack.enter_async_context(open_pool(settings, kept.dsn, use))
            for use in (PoolUse.WRITE, PoolUse.JOBS)
        ]
        await write.wait(10)
        await jobs.wait(10)
        signer = TokenSigner([b"secret"])
        boards = BoardDirectory(kept.boards, SystemClock())
        removal = PostgresRemoval(settings, write=write, jobs=jobs)
        forgotten: list[int] = []
        showing = IndexRemovals(kept.index, signer, forgotten.append, lambda _: None)
        yield Moderated(
            kept=kept,
            users=ModerateUsers(boards, removal, showing),
            delete_entry=DeleteEntry(boards, removal, showing),
            job=FinishRemovals(PostgresUnfinishedRemovals(settings, jobs)),
            signer=signer,
            forgotten=forgotten,
        )


async def test_ranks_close_up_at_once(moderated: Moderated) -> None:
    """A hidden user is nowhere to be seen, on any board, when the call answers."""
    one, two = await moderated.board("one"), await moderated.board("two")
    for board in (one, two):
        await moderated.submit(board, (1, 30), (USER, 20), (3, 10))

    hidden = await moderated.users.hide(USER, "")

    assert (hidden.changed, hidden.entry_count, hidden.indexed) == (True, 2, True)
    for board in (one, two):
        assert await moderated.shown(board) == [(1, 30), (3, 10)]
    assert sorted(moderated.forgotten) == [one.season.number, two.season.number]


async def test_a_restored_user_is_back_with_what_was_submitted_meanwhile(
    moderated: Moderated,
) -> None:
    """As if nothing had been: old and new entries, on old and new boards."""
    old = await moderated.board("old")
    await moderated.submit(old, (1, 30), (USER, 20))
    await moderated.users.hide(USER, "")
    new = await moderated.board("new")
    await moderated.submit(old, (USER, 40))
    await moderated.submit(new, (1, 30), (USER, 20))
    assert await moderated.shown(old) == await moderated.shown(new) == [(1, 30)]

    restored = await moderated.users.restore(USER, "")

    assert (restored.entry_count, restored.still_hidden, restored.indexed) == (2, False, True)
    assert await moderated.shown(old) == [(USER, 40), (1, 30)]
    assert await moderated.shown(new) == [(1, 30), (USER, 20)]


async def test_a_token_is_good_for_every_board(moderated: Moderated) -> None:
    """Also that of a call which comes second and finds everything done, or only a part."""
    boards = [await moderated.board("one"), await moderated.board("two")]
    for board in boards:
        await moderated.submit(board, (USER, 20))

    first = await moderated.users.hide(USER, "")
    moderated.forgotten.clear()
    again = await moderated.users.hide(USER, "")
    late = await moderated.kept.record(
        boards[0], [submission(USER, 30, board_id=boards[0].spec.board_id)]
    )
    third = await moderated.users.hide(USER, "")

    writes = moderated.signer.writes(first.consistency_token)
    assert writes.season_number == 0
    assert list(writes.by_shard()) == [shard_of(USER)]
    assert (again.changed, again.entry_count, again.indexed) == (False, 0, True)
    assert again.consistency_token == first.consistency_token
    assert sorted({*moderated.forgotten}) == [board.season.number for board in boards]
    for board in boards:
        await moderated.kept.index.count_before(
            board.season.number, [], shards=[5], fresh=Freshness(writes.by_shard())
        )
    third_writes = moderated.signer.writes(third.consistency_token).transactions
    assert {xid for xid, _ in third_writes} == {xid for xid, _ in writes.transactions} | {
        *late.changes
    }
    assert not third.indexed


async def test_a_call_again_shows_what_the_first_has_left(moderated: Moderated) -> None:
    """It died when the index had nothing of it yet, and PostgreSQL only the decision."""
    board = await moderated.board()
    await moderated.submit(board, (1, 30), (USER, 20))
    await moderated.kept.execute(
        f"insert into user_marks (user_id, board_no, mark) values ({USER}, 0, 1)"
    )

    again = await moderated.users.hide(USER, "")

    assert (again.changed, again.entry_count, again.indexed) == (False, 1, True)
    assert await moderated.shown(board) == [(1, 30)]


async def test_a_board_or_season_that_is_not_there(moderated: Moderated) -> None:
    """Nothing is noted for it."""
    await moderated.board()
    with pytest.raises(BoardNotFound):
        await moderated.users.hide(USER, "other")
    with pytest.raises(BoardNotFound):
        await moderated.users.restore(USER, "other")
    with pytest.raises(SeasonNotFound):
        await moderated.delete_entry(
            "board", USER, season_id="s9", submission_id=submission_id(), digest=b""
        )

    assert await moderated.kept.execute("select 1 from user_marks") == []


async def test_a_deleted_entry_is_gone_at_once(moderated: Moderated) -> None:
    """And no late apply brings it back; a submission afterwards does."""
    board = await moderated.board()
    late = await moderated.submit(board, (1, 30), (USER, 20))
    id_ = submission_id()

    deleted = await moderated.delete(board, USER, id_)
    await moderated.kept.apply(late)
    again = await moderated.delete(board, USER, id_)

    assert deleted.indexed
    assert await moderated.shown(board) == [(1, 30)]
    assert (again.outcome, again.indexed) == (Outcome.DUPLICATE, True)
    assert again.consistency_token == deleted.consistency_token
    await moderated.submit(board, (USER, 5))
    assert await moderated.shown(board) == [(1, 30), (USER, 5)]


async def test_a_deleted_user_is_gone_at_once_and_for_good(moderated: Moderated) -> None:
    """From every board, hidden or not; neither late applies nor the healer undo it."""
    one, two = await moderated.board("one"), await moderated.board("two")
    late = [await moderated.submit(board, (1, 30), (USER, 20)) for board in (one, two)]
    await moderated.users.hide(USER, "two")

    begun = await moderated.users.delete(USER, Erasure.ERASE)
    shown = [await moderated.shown(board) for board in (one, two)]
    await moderated.finish()
    for flush in late:
        await moderated.kept.apply(flush)
    await moderated.kept.catch_up()
    done = await moderated.users.delete(USER, Erasure.ERASE)

    assert shown == [[(1, 30)], [(1, 30)]]
    assert (begun.deleted_entry_count, begun.complete_time_ms, begun.indexed) == (2, None, True)
    assert (done.deleted_entry_count, done.erased_submission_count) == (2, 2)
    assert done.complete_time_ms is not None
    assert done.create_time_ms == begun.create_time_ms
    assert [await moderated.shown(board) for board in (one, two)] == shown


async def test_the_index_gets_later_what_it_could_not_take(moderated: Moderated) -> None:
    """The answer says that it is not shown yet, and a build brings it."""
    board = await moderated.board()
    await moderated.submit(board, (1, 30), (USER, 20), (37, 10))
    await empty(moderated.kept.cluster)

    hidden = await moderated.users.hide(USER, "")
    again = await moderated.users.hide(USER, "")
    deleted = await moderated.delete(board, 37)
    await moderated.kept.build_missing()

    assert (hidden.indexed, again.indexed, deleted.indexed) == (False, False, False)
    assert (await moderated.users.hide(USER, "")).indexed
    assert await moderated.shown(board) == [(1, 30)]


async def test_a_removal_that_was_never_applied_is_replayed(moderated: Moderated) -> None:
    """The worker died after its commit: the healer brings every kind of removal."""
    board = await moderated.board()
    await moderated.submit(board, (1, 30), (2, 20), (3, 10), (4, 5))
    removal = moderated.users.removal
    await removal.hide(1, None)
    await removal.hide(2, board)
    await removal.restore(2, board)
    await removal.delete_user(3, Erasure.ERASE)

    await moderated.kept.catch_up()

    assert await moderated.shown(board) == [(2, 20), (4, 5)]


@dataclass
class _History:
    """A random history, with every flush applied late, never or twice, and what anyone would
    expect of it.
    """

    moderated: Moderated
    boards: Sequence[Board]
    rng: random.Random
    oracles: list[Oracle] = field(init=False)
    marks: set[tuple[int, int]] = field(default_factory=set)
    deleting: set[int] = field(default_factory=set)
    outdated: set[tuple[int, int]] = field(default_factory=set)
    unapplied: list[FlushResult] = field(default_factory=list)
    sent: list[tuple[int, Submission]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.oracles = [Oracle(board.spec) for board in self.boards]

    async def step(self) -> None:
        """Something happens to one user."""
        user = self.rng.randint(1, 6)
        place = self.rng.randrange(len(self.boards))
        steps = {
            self.submit: 10,
            self.retry: 2,
            self.hide: 4,
            self.restore: 4,
            self.delete_entry: 3,
            self.delete_user: 1,
            self.run_job: 3,
            self.apply_some: 4,
        }
        (step,) = self.rng.choices(list(steps), list(steps.values()))
        await step(user, place)

    async def submit(self, user: int, place: int) -> None:
        """A submission is recorded, and applied some time."""
        item = submission(user, self.rng.randint(1, 9), board_id=self.boards[place].spec.board_id)
        flush = await self.moderated.kept.record(self.boards[place], [item])
        self.unapplied.append(flush)
        if user in self.deleting:
            assert isinstance(flush.results[0], UserBeingDeleted)
        else:
            assert isinstance(flush.results[0], Recorded)
            self.oracles[place].submit(user, item.score)
            self.sent.append((place, item))

    async def retry(self, _user: int, _place: int) -> None:
        """One that was recorded is sent again, whatever has happened to its user since."""
        if self.sent:
            place, item = self.rng.choice(self.sent)
            flush = await self.moderated.kept.record(self.boards[place], [item])
            result = flush.results[0]
            assert isinstance(result, Recorded)
            assert result.outcome is Outcome.DUPLICATE

    async def hide(self, user: int, place: int) -> None:
        """Everywhere, or on one board."""
        where = self.rng.choice([-1, place])
        done = await self.moderated.users.hide(user, self._name(where))
        assert done.changed == ((user, where) not in self.marks)
        self.marks.add((user, where))
        self.outdated.discard((user, where))

    async def restore(self, user: int, place: int) -> None:
        """Everywhere, or on one board."""
        where = self.rng.choice([-1, place])
        done = await self.moderated.users.restore(user, self._name(where))
        assert done.changed == ((user, where) in self.marks)
        self.marks.discard((user, where))
        self.outdated.discard((user, where))
        left = {at for marked, at in self.marks if marked == user}
        assert done.still_hidden == bool(left if where == -1 else left & {-1, where})

    async def delete_entry(self, user: int, place: int) -> None:
        """If there is one."""
        if self.oracles[place].entries.pop(user, None) is None:
            with pytest.raises(EntryNotFound):
                await self.moderated.delete(self.boards[place], user)
        else:
            await self.moderated.delete(self.boards[place], user)

    async def delete_user(self, user: int, _place: int) -> None:
        """Begins or goes on."""
        await self.moderated.users.delete(user, Erasure.ERASE)
        begun = await self.moderated.kept.execute(
            f"select 1 from user_deletions where user_id = {user} and complete_time is null"
        )
        if begun and user not in self.deleting:
            self.deleting.add(user)
            self.outdated |= {mark for mark in self.marks if mark[0] == user}
        for oracle in self.oracles:
            assert begun or user not in oracle.entries
            oracle.entries.pop(user, None)

    async def run_job(self, _user: int, _place: int) -> None:
        """The job comes one step further, with whatever is due by then."""
        await self.moderated.run_job()
        rows = await self.moderated.kept.execute("select user_id from user_marks where mark = 2")
        left = {int(str(user)) for (user,) in rows}
        # A hiding that was asked for during the deletion outlives it.
        gone = {mark for mark in self.outdated if mark[0] in self.deleting - left}
        self.marks -= gone
        self.outdated -= gone
        self.deleting = left

    async def apply_some(self, _user: int, _place: int) -> None:
        """Any of the flushes, in any order; some of them come again."""
        self.rng.shuffle(self.unapplied)
        for flush in self.unapplied[:3]:
            await self.moderated.kept.apply(flush)
        if self.rng.random() < 0.5:
            del self.unapplied[:3]

    def expected(self, place: int) -> Sequence[tuple[int, int]]:
        """What is to be seen of a board."""
        return [
            (entry.user_id, entry.score)
            for entry in self.oracles[place].board()
            if not {(entry.user_id, -1), (entry.user_id, place)} & self.marks
        ]

    def _name(self, where: int) -> str:
        return "" if where == -1 else self.boards[where].spec.board_id


@pytest.mark.parametrize("seed", range(4))
async def test_any_history_ends_as_one_dictionary_does(moderated: Moderated, seed: int) -> None:
    """Index, ledger and a naive board agree, whatever came late, twice or not at all."""
    boards = [await moderated.board("one"), await moderated.board("two")]
    history = _History(moderated, boards, random.Random(seed))
    for _ in range(80):
        await history.step()
    for flush in history.unapplied[::2]:
        await moderated.kept.apply(flush)
    await moderated.kept.catch_up()

    for place, board in enumerate(boards):
        assert await moderated.shown(board) == history.expected(place)
        assert await moderated.kept.shown(board) == await moderated.kept.truth(board)


async def test_decisions_and_submissions_at_once_end_in_agreement(moderated: Moderated) -> None:
    """However they interleave: an entry is hidden if and only if a mark covers it."""
    boards = [await moderated.board("one"), await moderated.board("two")]
    rng = random.Random(5)

    async def play(user: int) -> None:
        for _ in range(20):
            await moderated.submit(rng.choice(boards), (user, rng.randint(1, 99)))

    async def moderate(user: int) -> None:
        for _ in range(10):
            act = rng.choice([moderated.users.hide, moderated.users.restore])
            await act(user, rng.choice(["", "one"]))

    await asyncio.gather(*(act(user) for user in range(1, 5) for act in (play, moderate)))
    await moderated.finish()
    await moderated.kept.catch_up()

    rows = await moderated.kept.execute(
        "select e.state, exists (select from user_marks m where m.user_id = e.user_id "
        "and m.board_no in (0, s.board_no)) from entries e join seasons s using (season_no)"
    )
    assert {(state == 2) == marked for state, marked in rows} == {True}
    for board in boards:
        assert await moderated.kept.shown(board) == await moderated.kept.truth(board)
