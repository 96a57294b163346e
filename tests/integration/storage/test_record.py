"""The ledger statement: operators, outcomes, idempotence, and rows that spoil a batch."""

import asyncio
import json
import os
import re
import signal
import time
from collections import Counter

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import (
    BoardChanged,
    InvalidInput,
    LedgerUnavailable,
    SubmissionIdInFuture,
    SubmissionIdReused,
    SubmissionIdTooOld,
)
from core.flushes import Flush, Placed
from core.ordering import Ordering, decode_item
from core.types import (
    INT64_MAX,
    INT64_MIN,
    Operator,
    Outcome,
    Recorded,
    SortOrder,
)
from storage.ledger import PostgresLedger
from storage.pool import open_pool
from storage.sessions import PoolUse
from storage.statement import Statement
from tests.fakes.making import board_spec, submission, submission_id
from tests.fakes.oracle import Oracle
from tests.integration.storage.conftest import Store

pytestmark = pytest.mark.every_way

_EDGES = [INT64_MIN, INT64_MIN + 1, -3, -1, 0, 1, 2, 7, INT64_MAX - 1, INT64_MAX]
_orders = st.sampled_from(SortOrder)
_numbers = st.sampled_from(_EDGES) | st.integers(-4, 4)


@st.composite
def _steps(draw: st.DrawFn) -> list[list[tuple[int, int, int, Operator | None]]]:
    step = st.tuples(st.integers(1, 4), _numbers, _numbers, st.none() | st.sampled_from(Operator))
    return draw(st.lists(st.lists(step, min_size=1, max_size=12), min_size=1, max_size=5))


@given(
    orders=st.tuples(_orders, _orders),
    operator=st.sampled_from(Operator),
    bounds=st.sampled_from([(None, None), (-2, 3), (None, 5), (-3, None)]),
    flushes=_steps(),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_any_flushes_give_what_one_dictionary_gives(
    store: Store,
    orders: tuple[SortOrder, SortOrder],
    operator: Operator,
    bounds: tuple[int | None, int | None],
    flushes: list[list[tuple[int, int, int, Operator | None]]],
) -> None:
    """Outcomes, entries, previous entries and order are the oracle's, whatever is submitted."""
    spec = board_spec(
        f"b{submission_id()}",
        sort_order=orders[0],
        subscore_sort_order=orders[1],
        operator=operator,
        min_score=bounds[0],
        max_score=bounds[1],
    )
    board = await store.create(spec)
    oracle = Oracle(spec)
    index: dict[int, bytes] = {}
    for steps in flushes:
        submissions = [
            submission(u, s, t, operator=op, board_id=spec.board_id) for u, s, t, op in steps
        ]
        result = await store.flush(board, *submissions)
        for changes in result.changes.values():
            for change in changes:
                item = decode_item(change.item)
                index[item.user_id] = item.key
        for place, (user_id, score, subscore, step_operator) in enumerate(steps):
            expected = oracle.submit(user_id, score, subscore, step_operator)
            actual = result.results[place]
            assert isinstance(actual, Recorded)

            assert actual.outcome == expected.outcome
            for standing, entry in (
                (actual.entry, expected.entry),
                (actual.previous, expected.previous),
            ):
                assert (standing is None) == (entry is None)
                if standing is not None and entry is not None:
                    assert (standing.score, standing.subscore) == (entry.score, entry.subscore)
            if actual.entry is not None and expected.entry is not None:
                assert actual.entry.submission_count == expected.entry.submission_count

    ordering = Ordering.of(spec)
    by_key = [ordering.standing(key, bytes(6)) for key in sorted(index.values())]
    assert [(s.user_id, s.score, s.subscore) for s in by_key] == [
        (entry.user_id, entry.score, entry.subscore) for entry in oracle.board()
    ]


async def test_a_known_submission_gets_its_first_outcome(store: Store) -> None:
    """A retry changes nothing and is told what happened the first time, also much later."""
    board = await store.create(board_spec(operator=Operator.INCREMENT))
    first = submission(7, 5)
    recorded = await store.record_one(board, first)
    await store.record_one(board, submission(7, 10))

    again = await store.record_one(board, first)

    assert (again.outcome, again.first_outcome) == (Outcome.DUPLICATE, Outcome.APPLIED)
    assert again.entry is not None
    assert (again.entry.score, again.previous, again.xid) == (5, None, recorded.xid)
    assert (await store.ledger.standings(board.season.number, [7]))[7].score == 15


async def test_what_changes_nothing_names_the_transaction_behind_the_entry(store: Store) -> None:
    """Unchanged or rejected, and to its retry as well: a read that lacks that transaction would
    show another entry than the answer did.
    """
    board = await store.create(board_spec(operator=Operator.SET, max_score=10))
    await store.record_one(board, submission(1, 4))
    applied = await store.record_one(board, submission(1, 5))
    for score, outcome in ((5, Outcome.UNCHANGED), (11, Outcome.REJECTED)):
        sent = submission(1, score)

        told = await store.record_one(board, sent)
        again = await store.record_one(board, sent)

        assert (told.outcome, again.first_outcome) == (outcome, outcome)
        assert (told.xid, again.xid) == (applied.xid, applied.xid)
        assert not told.touches_index
        assert not again.touches_index


async def test_what_changed_an_entry_need_not_be_known(store: Store) -> None:
    """No entry yet, or one from before the column: nothing that a read could have to show."""
    board = await store.create(board_spec(operator=Operator.SET, max_score=10))
    await store.record_one(board, submission(2, 5))
    await store.execute("update entries set changed_xid = null")
    for sent in (submission(1, 11), submission(2, 5)):
        told = await store.record_one(board, sent)
        again = await store.record_one(board, sent)

        assert (told.xid, again.xid) == (0, 0)


async def test_a_deletion_is_behind_what_is_rejected_afterwards(store: Store) -> None:
    """The answer tells of no entry, so a read has to show that it is gone."""
    board = await store.create(board_spec(max_score=10))
    await store.record_one(board, submission(1, 5))
    removed = await store.delete_entry(board, 1)

    rejected = await store.record_one(board, submission(1, 11))

    assert (rejected.entry, rejected.xid) == (None, removed.xid)


async def test_nothing_is_read_whole_by_a_plan_made_for_small_tables(store: Store) -> None:
    """It is kept whatever they grow to, so it goes by key to boards, open seasons and marks."""
    await store.create(board_spec())
    await store.removal.hide(1, None)
    await store.execute("vacuum analyze boards, seasons, user_marks")
    statement = Statement.load("record")
    values = ", ".join("null" for _ in statement.names)
    async with store.ledger._write.connection() as connection:
        await connection.execute(b"prepare record as " + statement.text)
        cursor = await connection.execute(f"explain execute record({values})")
        plan = "\n".join(str(line) for (line,) in await cursor.fetchall())

    assert set(re.findall(r"(\S+) on (boards|seasons|user_marks)\b", plan)) == {
        ("boards_pkey", "boards"),
        ("seasons_by_end", "seasons"),
        ("user_marks_pkey", "user_marks"),
    }


async def test_a_rejected_submission_stays_rejected(store: Store) -> None:
    """The first outcome of a rejected submission is told to its retry, and no entry appears."""
    board = await store.create(board_spec(max_score=10))
    rejected = submission(1, 11)
    await store.record_one(board, rejected)

    again = await store.record_one(board, rejected)

    assert (again.outcome, again.first_outcome) == (Outcome.DUPLICATE, Outcome.REJECTED)
    assert again.entry is None
    assert await store.ledger.standings(board.season.number, [1]) == {}


async def test_an_id_with_other_content_is_refused(store: Store) -> None:
    """The same id with another score is an error and leaves the entry alone."""
    board = await store.create(board_spec())
    first = submission(1, 5)
    await store.record_one(board, first)

    (result,) = await store.record(board, submission(1, 6, id=first.submission_id))

    assert isinstance(result, SubmissionIdReused)
    assert (await store.ledger.standings(board.season.number, [1]))[1].score == 5


async def test_ids_outside_the_window_are_refused_by_the_databases_clock(store: Store) -> None:
    """Too old and too far ahead are told apart, and neighbours in the batch are taken."""
    board = await store.create(board_spec())
    now_ms = time.time_ns() // 1_000_000
    day_ms = 86_400_000

    old, fine, ahead = await store.record(
        board,
        submission(1, 1, id=submission_id(at_ms=now_ms - 7 * day_ms - 60_000)),
        submission(2, 1, id=submission_id(at_ms=now_ms - 7 * day_ms + 60_000)),
        submission(3, 1, id=submission_id(at_ms=now_ms + day_ms + 60_000)),
    )

    assert isinstance(old, SubmissionIdTooOld)
    assert abs(old.server_time_ms - now_ms) < 60_000
    assert isinstance(fine, Recorded)
    assert isinstance(ahead, SubmissionIdInFuture)


async def test_order_of_arrival_decides_between_equals_inside_one_flush(store: Store) -> None:
    """Equal results stand in the order of the flush, not of user ids or of waves."""
    board = await store.create(board_spec(operator=Operator.INCREMENT))
    users = [9, 3, 9, 8, 3, 1]

    result = await store.flush(board, *(submission(user, 1) for user in users))

    latest = {}
    for changes in result.changes.values():
        for change in changes:
            item = decode_item(change.item)
            if item.revision >= latest.get(item.user_id, (0, b""))[0]:
                latest[item.user_id] = (item.revision, item.key)
    keys = sorted(key for _, key in latest.values())
    assert [int.from_bytes(key[24:], "big") for key in keys] == [9, 3, 8, 1]


async def test_a_flush_with_a_repeated_user_is_one_transaction(store: Store) -> None:
    """Waves share a transaction, and its outbox row names every user once."""
    board = await store.create(board_spec(operator=Operator.INCREMENT))

    result = await store.flush(board, *(submission(user, 1) for user in (1, 2, 1, 1)))

    assert len(result.changes) == 1
    (row,) = await store.execute("select shards, user_id from outbox")
    assert row[0] == 0b110
    assert sorted(row[1]) == [1, 2]  # type: ignore[call-overload]


async def test_a_row_the_database_cannot_store_fails_alone(store: Store) -> None:
    """A poisoned row does not take 40 innocent ones with it (P11)."""
    board = await store.create(board_spec())
    poisoned = submission(21, 1, metadata=json.dumps({"text": "\x00"}))
    good = [submission(user, user) for user in range(1, 41) if user != 21]

    results = await store.record(board, *good[:20], poisoned, *good[20:])

    assert Counter(type(result) for result in results) == {Recorded: 39, InvalidInput: 1}
    assert isinstance(results[20], InvalidInput)
    stored = await store.ledger.standings(board.season.number, range(1, 41))
    assert stored.keys() == set(range(1, 41)) - {21}


async def test_twins_sent_at_once_count_once(store: Store) -> None:
    """The same submissions on many connections at once: each counts exactly once (P2)."""
    board = await store.create(board_spec(operator=Operator.INCREMENT))
    batch = [submission(user, 1) for user in range(1, 60)]

    async def send(shift: int) -> list[Outcome]:
        rotated = batch[shift:] + batch[:shift]
        return [r.outcome for r in await store.record(board, *rotated) if isinstance(r, Recorded)]

    rounds = await asyncio.gather(*(send(shift) for shift in range(0, 50, 7)))

    outcomes = Counter(outcome for outcomes in rounds for outcome in outcomes)
    assert outcomes == {Outcome.APPLIED: 59, Outcome.DUPLICATE: 59 * 7}
    (totals,) = await store.execute("select count(*), sum(score), max(score) from entries")
    assert totals == (59, 59, 1)


async def test_a_changed_board_is_told_apart_from_a_missing_one(store: Store) -> None:
    """A submission that was checked against an old definition is not recorded under a new one."""
    board = await store.create(board_spec())
    await store.boards.update("board", {"max_score": 3}, etag="")

    (result,) = await store.record(board, submission(1, 5))

    assert isinstance(result, BoardChanged)


async def test_nothing_overtakes_a_submission_whose_board_changed(store: Store) -> None:
    """A transaction that meets a changed board takes nothing at all, in whatever wave."""
    old = await store.create(board_spec(operator=Operator.SET))
    new = await store.boards.update("board", {"title": "new"}, etag="")
    for boards in ((old, new, new), (new, new, old), (new, old, new)):
        users = (1, 1, 2)
        placed = [
            Placed(submission(user, 100 + place), board, place)
            for place, (user, board) in enumerate(zip(users, boards, strict=True))
        ]

        result = await store.ledger.record(Flush(None, placed))

        assert [type(outcome) for outcome in result.results.values()] == [BoardChanged] * 3
        assert result.changes == {}
    assert await store.execute("select 1 from score_events") == []


async def test_a_submission_in_the_millisecond_of_its_boards_birth_is_taken(store: Store) -> None:
    """The season is open from the moment it was made, not from the next whole millisecond."""
    for number in range(30):
        board = await store.create(board_spec(f"b{number}"))
        await store.record_one(board, submission(1, 1, board_id=f"b{number}"))


async def test_a_server_that_became_a_standby_is_unavailable(store: Store) -> None:
    """Writes to a read-only server may be retried elsewhere: no internal error."""
    board = await store.create(board_spec())
    name = (await store.execute("select current_database()"))[0][0]
    await store.execute(f"alter database {name} set default_transaction_read_only = on")
    await store.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'standings-write' and datname = current_database()"
    )

    (result,) = (
        await store.ledger.record(Flush(1 << 40, [Placed(submission(1, 1), board, 0)]))
    ).results.values()

    assert isinstance(result, LedgerUnavailable)


async def test_a_flush_that_was_given_up_does_not_overwrite_a_later_one(store: Store) -> None:
    """A backend that was frozen when the statement came reads it after everybody has moved on."""
    board = await store.create(board_spec(operator=Operator.SET))
    await store.record_one(board, submission(1, 1))
    backends = await store.execute(
        "select pid from pg_stat_activity "
        "where application_name = 'standings-write' and datname = current_database()"
    )
    patience = store.ledger._write_timeout_s
    store.ledger._write_timeout_s = 0
    for (pid,) in backends:
        os.kill(int(str(pid)), signal.SIGSTOP)
    try:
        given_up = await store.ledger.record(Flush(None, [Placed(submission(1, 100), board, 0)]))
    finally:
        frozen = [int(str(pid)) for (pid,) in backends]
        store.ledger._write_timeout_s = patience
    # Another connection, while the frozen ones still hold what was sent to them. Straight to
    # PostgreSQL: PgBouncer would take one of those that are frozen for it.
    async with open_pool(store.settings, store.dsn, PoolUse.WRITE) as pool:
        other = PostgresLedger(store.settings, write=pool, read=pool)
        recorded = await other.record(Flush(None, [Placed(submission(1, 200), board, 0)]))
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    async with asyncio.timeout(10):
        while await store.execute(
            "select 1 from pg_stat_activity where pid = any(%s) and state <> 'idle'", frozen
        ):
            pass

    assert isinstance(given_up.results[0], LedgerUnavailable)
    assert isinstance(recorded.results[0], Recorded)
    assert (await store.execute("select score from entries")) == [(200,)]


async def test_metadata_stays_with_the_change_it_came_with(store: Store) -> None:
    """An unchanged result keeps the metadata of the submission that reached it."""
    board = await store.create(board_spec())
    await store.record_one(board, submission(1, 5, metadata='{"car":"red"}'))
    await store.record_one(board, submission(1, 4, metadata='{"car":"blue"}'))

    entry = (await store.ledger.standings(board.season.number, [1]))[1]

    assert json.loads(entry.metadata or "") == {"car": "red"}
    assert entry.submission_count == 2


async def test_a_killed_connection_is_replaced_within_the_call(store: Store) -> None:
    """A restart of the server under idle connections costs no caller an error."""
    board = await store.create(board_spec())
    await store.record_one(board, submission(1, 1))
    async with await psycopg.AsyncConnection.connect(store.dsn, autocommit=True) as killer:
        await killer.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'standings-write' and datname = current_database()"
        )

    result = await store.ledger.record(Flush(1 << 40, [Placed(submission(2, 2), board, 0)]))

    assert isinstance(result.results[0], Recorded)
