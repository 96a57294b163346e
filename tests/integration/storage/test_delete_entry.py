"""One entry deleted: what PostgreSQL holds afterwards, and what a retry is told."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from core.board_directory import BoardDirectory
from core.clock import SystemClock
from core.delete_entry import DeleteEntry, EntryDeleted
from core.errors import (
    BoardNotFound,
    EntryNotFound,
    LedgerUnavailable,
    SubmissionIdInFuture,
    SubmissionIdReused,
    SubmissionIdTooOld,
)
from core.index_removals import IndexRemovals
from core.ordering import decode_item
from core.tokens import TokenSigner
from core.types import Board, EntryState, Operator, Outcome
from tests.fakes.making import board_spec, submission, submission_id
from tests.fakes.memory_index import MemoryIndex
from tests.integration.storage.conftest import Store

pytestmark = pytest.mark.every_way

USER = 21


class StillClock(SystemClock):
    """A clock by which nothing grows older."""

    def monotonic_s(self) -> float:
        """Always the same moment."""
        return 1.0


async def _states(store: Store, user_id: int = USER) -> list[tuple[object, ...]]:
    return await store.execute(
        "select season_no, state from entries where user_id = %s order by 1", user_id
    )


async def _board(store: Store, board_id: str, *submissions: tuple[int, int]) -> Board:
    board = await store.create(board_spec(board_id, operator=Operator.INCREMENT))
    for user_id, score in submissions:
        await store.record_one(board, submission(user_id, score, board_id=board_id))
    return board


async def _with_old_definition(store: Store, user_id: int) -> Callable[[], Awaitable[EntryDeleted]]:
    """Deletes by name, as a worker that has looked the board up once and for all."""
    boards = BoardDirectory(store.boards, StillClock())
    showing = IndexRemovals(MemoryIndex(), TokenSigner([b"secret"]), lambda _: None, lambda _: None)
    delete_entry = DeleteEntry(boards, store.removal, showing)
    await _board(store, "board", (user_id, 5))
    await boards.get("board")
    return partial(
        delete_entry,
        "board",
        user_id,
        season_id="s1",
        submission_id=submission_id(),
        digest=b"delete",
    )


async def test_a_deleted_entry_is_a_tombstone_and_a_new_one_starts_anew(store: Store) -> None:
    """Count and arrival begin again, the revision goes on."""
    board = await _board(store, "board", (USER, 5), (USER, 6))

    removed = await store.delete_entry(board, USER)
    again = await store.record_one(board, submission(USER, 2))

    assert removed.outcome is Outcome.APPLIED
    assert removed.deleted is not None
    assert (removed.deleted.score, removed.deleted.submission_count) == (11, 2)
    (change,) = removed.changes
    assert (decode_item(change.item).state, decode_item(change.item).revision) == (
        EntryState.DELETED,
        3,
    )
    assert again.entry is not None
    assert (again.entry.score, again.entry.submission_count, again.previous) == (2, 1, None)
    assert await store.execute("select revision, state from entries") == [(4, 0)]


async def test_a_deletion_is_announced_to_the_index(store: Store) -> None:
    """The healer finds the transaction, and the entry is a tombstone there."""
    board = await _board(store, "board", (USER, 5))

    removed = await store.delete_entry(board, USER)

    changes = await store.history.changes(removed.xid)
    assert [(t.xid, t.users) for t in changes.transactions] == [
        (removed.xid, ((board.season.number, USER),))
    ]
    assert await store.history.items(5, [(board.season.number, USER)]) == list(removed.changes)


async def test_a_repeated_deletion_tells_the_first_one(store: Store) -> None:
    """Whatever the user has submitted in between stays."""
    board = await _board(store, "board", (USER, 5))
    id_ = submission_id()
    first = await store.delete_entry(board, USER, id_)
    await store.record_one(board, submission(USER, 3))

    again = await store.delete_entry(board, USER, id_)

    assert again.outcome is Outcome.DUPLICATE
    assert (again.xid, again.changes) == (first.xid, ())
    assert again.deleted is not None
    assert first.deleted is not None
    assert (again.deleted.score, again.deleted.achieve_time_ms) == (
        5,
        first.deleted.achieve_time_ms,
    )
    assert await _states(store) == [(board.season.number, 0)]


async def test_one_id_is_for_one_thing(store: Store) -> None:
    """A deletion under the id of a submission is refused, and the other way round."""
    board = await _board(store, "board")
    taken = submission(USER, 5)
    await store.record_one(board, taken)
    with pytest.raises(SubmissionIdReused):
        await store.delete_entry(board, USER, taken.submission_id)
    deletion = submission_id()
    await store.delete_entry(board, USER, deletion)

    (result,) = await store.record(board, submission(USER, 5, id=deletion))

    assert isinstance(result, SubmissionIdReused)
    assert await _states(store) == [(board.season.number, 1)]


@pytest.mark.parametrize("scores", [[], [5]], ids=["nothing", "a rejected submission"])
async def test_without_an_entry_nothing_is_stored(store: Store, scores: list[int]) -> None:
    """Neither is the row that a rejected submission leaves an entry; the id stays free."""
    board = await store.create(board_spec(max_score=1))
    for score in scores:
        await store.record_one(board, submission(USER, score))
    id_ = submission_id()
    with pytest.raises(EntryNotFound):
        await store.delete_entry(board, USER, id_)
    await store.record_one(board, submission(USER, 1))

    assert (await store.delete_entry(board, USER, id_)).outcome is Outcome.APPLIED


async def test_a_deletion_that_the_database_cannot_store_may_be_sent_again(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is deleted where no partition takes the id, and nothing of the row is logged."""
    board = await _board(store, "board", (USER, 5))
    id_ = submission_id()
    for (partition,) in await store.execute(
        "select relid::text from pg_partition_tree('score_events') where isleaf"
    ):
        await store.execute(f"alter table score_events detach partition {partition}")

    with pytest.raises(LedgerUnavailable) as raised:
        await store.delete_entry(board, USER, id_)

    shown = "".join(traceback.format_exception(raised.value)) + caplog.text
    assert "a submission was refused by the database" in shown
    assert id_ not in shown
    assert await _states(store) == [(board.season.number, 0)]


async def test_an_entry_of_a_board_that_was_made_again_is_deleted(store: Store) -> None:
    """Also where this worker still knows the board before it, which another one has deleted."""
    delete_entry = await _with_old_definition(store, USER)
    await store.boards.delete("board", etag="")
    await _board(store, "board", (USER, 7))

    deleted = (await delete_entry()).deleted

    assert deleted is not None
    assert deleted.score == 7
    assert [state for _, state in await _states(store)] == [0, 1]


async def test_a_board_that_another_worker_deleted_is_not_found(store: Store) -> None:
    """Nothing is deleted of the entries that are left of it."""
    delete_entry = await _with_old_definition(store, USER)
    await store.boards.delete("board", etag="")

    with pytest.raises(BoardNotFound):
        await delete_entry()

    assert [state for _, state in await _states(store)] == [0]


async def test_a_deletion_is_refused_by_its_id_or_its_board(store: Store) -> None:
    """Ids outside the window, and boards that are gone."""
    board = await _board(store, "board", (USER, 5))
    with pytest.raises(SubmissionIdTooOld):
        await store.delete_entry(board, USER, submission_id(at_ms=0))
    with pytest.raises(SubmissionIdInFuture):
        await store.delete_entry(board, USER, submission_id(at_ms=2**47))
    await store.boards.delete("board", etag="")
    with pytest.raises(BoardNotFound):
        await store.delete_entry(board, USER)

    assert await _states(store) == [(board.season.number, 0)]
