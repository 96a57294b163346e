"""One entry deleted: what PostgreSQL holds afterwards, and what a retry is told."""

from __future__ import annotations

import pytest

from core.errors import (
    BoardNotFound,
    EntryNotFound,
    SubmissionIdInFuture,
    SubmissionIdReused,
    SubmissionIdTooOld,
)
from core.ordering import decode_item
from core.types import Board, EntryState, Operator, Outcome
from tests.fakes.making import board_spec, submission, submission_id
from tests.integration.storage.conftest import Store

pytestmark = pytest.mark.both_postgres

USER = 21


async def _states(store: Store, user_id: int = USER) -> list[tuple[object, ...]]:
    return await store.execute(
        "select season_no, state from entries where user_id = %s order by 1", user_id
    )


async def _board(store: Store, board_id: str, *submissions: tuple[int, int]) -> Board:
    board = await store.create(board_spec(board_id, operator=Operator.INCREMENT))
    for user_id, score in submissions:
        await store.record_one(board, submission(user_id, score, board_id=board_id))
    return board


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
