"""Decisions about users that meet each other, calls that come again, and what a job does later."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from core.errors import LedgerUnavailable, WriteConflict
from core.types import Board, Erasure, Operator
from jobs.finish_removals import FinishRemovals
from storage.entry_sweeps import lock_user
from storage.pool import Connection, Pool
from storage.removal import PostgresRemoval
from storage.transactions import transact_patiently
from tests.fakes.making import board_spec, submission
from tests.integration.storage.conftest import Store

pytestmark = pytest.mark.every_way

USER = 21


async def _board(store: Store, board_id: str, *users: int) -> Board:
    board = await store.create(board_spec(board_id, operator=Operator.INCREMENT))
    for user_id in users:
        await store.record_one(board, submission(user_id, 5, board_id=board_id))
    return board


async def _step(store: Store) -> None:
    """One run of the job, and the time until the next step is due."""
    await FinishRemovals(store.unfinished)()
    await store.execute("update user_sweeps set seen_time = seen_time - interval '1 hour'")


async def _finish(store: Store) -> None:
    """Lets the job come to its end."""
    async with asyncio.timeout(30):
        while await store.execute(
            "select user_id from user_sweeps union "
            "select user_id from user_deletions where complete_time is null"
        ):
            await _step(store)


async def _states(store: Store) -> list[tuple[object, ...]]:
    return await store.execute(
        "select season_no, state from entries where user_id = %s order by 1", USER
    )


async def test_moderation_keeps_off_the_connections_of_the_ledger(store: Store) -> None:
    """It needs none of them, so that it cannot hold up submissions."""
    board = await _board(store, "board", USER)
    removal = PostgresRemoval(store.settings, write=cast("Pool", None), jobs=store.pool)

    hiding = await removal.hide(USER, None)
    restoration = await removal.restore(USER, None)
    deletion = await removal.delete_user(USER, Erasure.ERASE)

    assert (hiding.sweep.entry_count, restoration.sweep.entry_count) == (1, 1)
    assert deletion.entry_count == 1
    assert await _states(store) == [(board.season.number, 1)]


@pytest.mark.parametrize("act", ["hide", "delete"])
async def test_the_same_call_again_does_what_the_first_has_left(
    store: Store, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """The first one died when only its decision was stored."""
    boards = [await _board(store, f"b{number}", USER) for number in range(2)]

    async def call() -> tuple[bool, int]:
        if act == "hide":
            hiding = await store.removal.hide(USER, None)
            return hiding.changed, hiding.sweep.entry_count
        deletion = await store.removal.delete_user(USER, Erasure.ERASE)
        return False, deletion.sweep.entry_count

    async def die(*_: object, **__: object) -> None:
        raise LedgerUnavailable

    with monkeypatch.context() as patch:
        patch.setattr("storage.removal.look", die)
        with pytest.raises(LedgerUnavailable):
            await call()

    assert await call() == (False, 2)
    state = 2 if act == "hide" else 1
    assert await _states(store) == [(board.season.number, state) for board in boards]


async def test_a_call_again_names_the_last_change_of_each_entry(store: Store) -> None:
    """On every board; nothing of what is out of the outbox, or of another cluster."""
    one, two, three, four = [await _board(store, f"b{number}", USER) for number in range(4)]
    first = await store.removal.hide(USER, None)
    (hidden,) = first.sweep.changes
    flush = await store.flush(two, submission(USER, 1, board_id="b1"))
    (late,) = flush.changes
    await store.execute(
        "update entries set changed_xid = '4' where season_no = %s", three.season.number
    )
    await store.execute(
        "update entries set changed_xid = '4000000000000' where season_no = %s", four.season.number
    )
    await store.execute("update outbox_trimmed set below = '5'")

    again = await store.removal.hide(USER, None)

    assert first.sweep.earlier == []
    assert (again.changed, again.sweep.entry_count, again.sweep.changes) == (False, 0, {})
    assert again.sweep.earlier == [
        (one.season.number, hidden),
        (two.season.number, late),
        (three.season.number, 0),
        (four.season.number, 0),
    ]


async def test_every_way_to_change_an_entry_names_its_transaction(store: Store) -> None:
    """Hidden, shown again, made a tombstone: the row says by whom."""
    await _board(store, "board", USER)
    for act in (store.removal.hide, store.removal.restore):
        (xid,) = (await act(USER, None)).sweep.changes
        assert await store.execute("select changed_xid::text::bigint from entries") == [(xid,)]

    (xid,) = (await store.removal.delete_user(USER, Erasure.ERASE)).sweep.changes
    again = await store.removal.delete_user(USER, Erasure.ERASE)

    assert await store.execute("select changed_xid::text::bigint from entries") == [(xid,)]
    assert [entry[1] for entry in again.sweep.earlier] == [xid]


async def test_a_hiding_leaves_the_entries_of_deleted_boards_alone(store: Store) -> None:
    """The index does not hold them any more, and nobody can read them."""
    board = await _board(store, "board", USER)
    await store.boards.delete("board", etag="")

    hiding = await store.removal.hide(USER, None)

    assert (hiding.changed, hiding.sweep.entry_count) == (True, 0)
    assert (hiding.sweep.changes, hiding.sweep.earlier) == ({}, [])
    assert await _states(store) == [(board.season.number, 0)]


async def test_a_lock_that_is_in_the_way_for_a_moment_is_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each transaction has three tries, and no more."""
    await _board(store, "board", USER)
    tries = 0

    async def flaky(connection: Connection, user_id: int) -> None:
        nonlocal tries
        tries += 1
        if tries % 3:
            raise WriteConflict
        await lock_user(connection, user_id)

    async def locked(_: Connection) -> None:
        nonlocal tries
        tries += 1
        raise WriteConflict

    with monkeypatch.context() as patch:
        patch.setattr("storage.removal.lock_user", flaky)
        hiding = await store.removal.hide(USER, None)

    assert (hiding.sweep.entry_count, tries) == (1, 6)
    with pytest.raises(WriteConflict):
        await transact_patiently(store.pool, locked, timeout_s=10)
    assert tries == 9


async def test_the_last_look_goes_on_where_it_was_ended_unless_decided_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is kept with the fence that it belongs to."""
    monkeypatch.setattr("storage.entry_sweeps._SEASONS_MAX", 2)
    boards = [await _board(store, f"b{number}", USER) for number in range(5)]
    await store.execute("insert into user_marks (user_id, board_no, mark) values (21, 0, 1)")
    await store.execute("insert into user_sweeps (user_id, fence) values (21, '3')")

    done = [await store.unfinished.sweep(USER) for _ in range(2)]
    between = await store.execute("select through from user_sweeps")
    halves = [state for _, state in await _states(store)]
    await store.removal.hide(USER, boards[0])
    after = await store.execute("select through, fence from user_sweeps")
    await store.execute("update user_sweeps set fence = '3'")
    done += [await store.unfinished.sweep(USER) for _ in range(3)]

    assert done == [False, False, False, False, True]
    assert between == [(boards[3].season.number,)]
    assert halves == [2, 2, 2, 2, 0]
    assert after == [(0, None)]
    assert await store.execute("select 1 from user_sweeps") == []


async def test_a_fence_of_another_cluster_is_set_anew(store: Store) -> None:
    """Restored from a dump, it would never be reached."""
    await store.removal.hide(USER, None)
    await store.execute("update user_sweeps set fence = '4000000000000', seen_time = now()")

    await _step(store)
    early = await store.execute("select fence::text from user_sweeps")
    await _finish(store)

    assert early == [("4000000000000",)]
    assert await store.execute("select 1 from user_sweeps") == []


async def test_a_hiding_that_is_asked_for_during_a_deletion_outlives_it(store: Store) -> None:
    """Also one that was there before and is asked for again; the others go with the user."""
    one, two, three = [await _board(store, f"b{number}") for number in range(3)]
    for board in (one, two):
        await store.removal.hide(USER, board)
    await store.removal.delete_user(USER, Erasure.ERASE)
    changed = [(await store.removal.hide(USER, board)).changed for board in (two, three)]
    await _finish(store)

    polled = await store.removal.delete_user(USER, Erasure.ERASE)

    assert changed == [False, True]
    assert polled.complete_time_ms is not None
    assert await store.execute("select board_no, mark from user_marks order by 1") == [
        (two.number, 1),
        (three.number, 1),
    ]


async def test_boards_that_go_while_a_user_is_deleted_start_no_deletion_anew(store: Store) -> None:
    """Nothing can have been submitted to them that the deletion did not find."""
    await _board(store, "board", USER)
    other = await _board(store, "other")
    await store.removal.delete_user(USER, Erasure.ERASE)
    await store.boards.delete("other", etag="")
    await store.retention.mark_purged(other.season.number)
    await _finish(store)

    polled = await store.removal.delete_user(USER, Erasure.ERASE)

    assert polled.complete_time_ms is not None
    assert await store.execute("select count(*) from user_deletions") == [(1,)]


async def test_a_board_that_is_being_purged_is_not_taken_for_nothing(store: Store) -> None:
    """The user's entry went first; there are submissions all the same."""
    await _board(store, "board", USER)
    await store.removal.delete_user(USER, Erasure.ERASE)
    await _finish(store)
    other = await _board(store, "other", USER)
    await store.boards.delete("other", etag="")
    await store.retention.purge(other.season.number, 5)

    second = await store.removal.delete_user(USER, Erasure.ERASE)
    await _finish(store)
    third = await store.removal.delete_user(USER, Erasure.ERASE)

    assert second.complete_time_ms is None
    assert third.complete_time_ms is not None
    assert await store.execute("select 1 from score_events where user_id <> 0") == []


async def test_of_two_erasures_the_stricter_holds(store: Store) -> None:
    """Asked for while the other is under way; the answer tells."""
    await _board(store, "board", USER)
    asked = [
        (await store.removal.delete_user(USER, erasure)).erasure
        for erasure in (Erasure.ANONYMIZE, Erasure.ERASE, Erasure.ANONYMIZE)
    ]
    await _finish(store)
    done = await store.removal.delete_user(USER, Erasure.ANONYMIZE)

    assert asked == [Erasure.ANONYMIZE, Erasure.ERASE, Erasure.ERASE]
    assert (done.erasure, done.event_count) == (Erasure.ERASE, 1)
    assert done.complete_time_ms is not None
    assert await store.execute("select user_id, score, new_score from score_events") == [
        (0, 0, None)
    ]


async def test_an_anonymized_score_does_not_lead_to_the_tombstone(store: Store) -> None:
    """The entry's revision goes on from those of the submissions."""
    await _board(store, "board", USER, USER, 22)

    await store.removal.delete_user(USER, Erasure.ANONYMIZE)
    await _finish(store)

    rows = await store.execute("select user_id, revision from score_events order by 1")
    assert rows == [(0, 0), (0, 0), (22, 1)]
