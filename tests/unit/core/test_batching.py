"""The batcher: what goes together, what waits, and in which order things arrive."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest

from core import batching
from core.batching import Settled
from core.errors import (
    BoardChanged,
    BoardNotFound,
    LedgerUnavailable,
    QueueFull,
)
from core.types import Board, Season
from tests.fakes.making import board_spec, submission
from tests.unit.core.batching_bench import Bench, fresh_bench


@pytest.fixture
def bench() -> Bench:
    """A fresh batcher."""
    return fresh_bench()


async def test_concurrent_calls_share_a_flush(bench: Bench) -> None:
    """What comes in during one turn of the loop goes out together, in order."""
    for user in (3, 1, 2):
        bench.send(submission(user, 1))

    await bench.ledger.until(1)

    assert bench.ledger.users(0) == [3, 1, 2]
    assert [placed.place for placed in bench.ledger.flushes[0].placed] == [0, 1, 2]


async def test_two_flushes_are_on_their_way_and_the_rest_gathers(bench: Bench) -> None:
    """A third flush is sealed only when one of two is back, with all that came meanwhile."""
    for user in range(1, 3):
        bench.send(submission(user, 1))
        await bench.ledger.until(user)
    for user in range(10, 15):
        bench.send(submission(user, 1))
        await asyncio.sleep(0)
    assert len(bench.ledger.flushes) == 2

    bench.ledger.gates[0].set()
    await bench.ledger.until(3)

    assert bench.ledger.users(2) == [10, 11, 12, 13, 14]


async def test_what_is_not_answered_yet_is_on_its_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the index has followed its callers send nothing: the next flush goes when it is as
    large, or when they are answered.
    """
    monkeypatch.setattr(batching, "_LATE", math.inf)
    await _recorded_once(bench)
    bench.index.gate = asyncio.Event()
    bench.index.asked.clear()
    for user in (1, 2, 3):
        bench.send(submission(user, 1))
    await bench.ledger.until(2)
    bench.ledger.gates[1].set()
    await bench.index.asked.wait()
    for user in (11, 12):
        bench.send(submission(user, 1))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(bench.ledger.flushes) == 2

    bench.send(submission(13, 1))
    await bench.ledger.until(3)
    assert bench.ledger.users(2) == [11, 12, 13]

    bench.send(submission(21, 1))
    bench.index.gate.set()
    bench.ledger.gates[2].set()
    await bench.ledger.until(4)
    assert bench.ledger.users(3) == [21]


async def _recorded_once(bench: Bench) -> None:
    """How long a flush takes is known after the first."""
    call = bench.send(submission(99, 1))
    await bench.ledger.until(1)
    bench.ledger.gates[0].set()
    await call


async def test_calls_that_come_right_after_a_crowd_wait_for_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However idle the loop is: what a flush costs is shared by all that come in some ms."""
    for user in range(1, 9):
        bench.send(submission(user, 1))
    await bench.ledger.until(1)
    ends: list[Callable[[], object]] = []
    monkeypatch.setattr(
        asyncio.get_running_loop(), "call_later", lambda _wait_s, end: ends.append(end)
    )
    bench.ledger.gates[0].set()

    for user in (20, 21):
        bench.send(submission(user, 1))
        for _ in range(20):
            await asyncio.sleep(0)
    assert len(bench.ledger.flushes) == 1
    (end,) = ends
    end()
    await bench.ledger.until(2)

    assert bench.ledger.users(1) == [20, 21]


@pytest.mark.parametrize(
    ("took_s", "wait_s"),
    [(0.001, 0.006), (0.02, 0.012), (0.2, 0.025)],
    ids=["quick", "usual", "slow"],
)
async def test_they_wait_twice_as_long_as_flushes_take(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, took_s: float, wait_s: float
) -> None:
    """Which is averaged over the last ones; within bounds."""
    loop = asyncio.get_running_loop()
    now_s = loop.time()
    with monkeypatch.context() as clock:
        clock.setattr(loop, "time", lambda: now_s)
        clock.setattr("core.lull.time.monotonic", lambda: now_s)
        calls = [bench.send(submission(user, 1)) for user in range(1, 9)]
        await bench.ledger.until(1)
        now_s += took_s
        bench.ledger.gates[0].set()
        await asyncio.wait(calls)
        for _ in range(20):
            await asyncio.sleep(0)
        waits_s: list[float] = []
        clock.setattr(loop, "call_later", lambda wait_s, _end: waits_s.append(wait_s))

        bench.send(submission(20, 1))

    assert waits_s == [pytest.approx(wait_s)]


async def test_arrivals_follow_the_order_of_sealing(bench: Bench) -> None:
    """A later flush has the larger arrival, although both are under way."""
    for user in (1, 2):
        bench.send(submission(user, 1))
        await bench.ledger.until(user)

    assert bench.ledger.flushes[0].arrival < bench.ledger.flushes[1].arrival


async def test_a_user_on_the_way_is_not_sent_again(bench: Bench) -> None:
    """A second submission of a user waits for the first; somebody else's does not."""
    bench.send(submission(1, 1))
    await bench.ledger.until(1)
    bench.send(submission(1, 2))
    bench.send(submission(2, 2))
    await bench.ledger.until(2)
    assert bench.ledger.users(1) == [2]

    bench.ledger.gates[0].set()
    await bench.ledger.until(3)

    assert bench.ledger.users(2) == [1]


async def test_what_waits_holds_back_the_rest_of_its_source(bench: Bench) -> None:
    """A stream arrives in its own order, even past a user that is on the way."""
    stream = object()
    bench.send(submission(1, 1))
    await bench.ledger.until(1)
    bench.send(submission(1, 2), submission(7, 2), source=stream)
    bench.send(submission(8, 2), source=stream)
    bench.send(submission(9, 2))
    await bench.ledger.until(2)
    assert bench.ledger.users(1) == [9]

    bench.ledger.gates[0].set()
    await bench.ledger.until(3)

    assert bench.ledger.users(2) == [1, 7, 8]


async def test_an_id_stands_in_a_flush_once(bench: Bench) -> None:
    """The second copy waits until the ledger knows the first."""
    first = submission(1, 1)
    bench.send(first)
    bench.send(first)
    await bench.ledger.until(1)
    assert bench.ledger.users(0) == [1]

    bench.ledger.gates[0].set()
    await bench.ledger.until(2)

    assert bench.ledger.users(1) == [1]


async def test_a_user_stands_in_a_flush_eight_times_at_most(bench: Bench) -> None:
    """Each repetition is one statement more; the ninth goes with the next flush."""
    bench.send(*(submission(1, score) for score in range(11)))
    await bench.ledger.until(1)
    assert len(bench.ledger.flushes[0].placed) == 8

    bench.ledger.gates[0].set()
    await bench.ledger.until(2)

    scores = [placed.submission.score for placed in bench.ledger.flushes[1].placed]
    assert scores == [8, 9, 10]


async def test_a_large_call_is_cut_into_flushes(bench: Bench) -> None:
    """A thousand submissions are answered together, and recorded in full flushes in order."""
    bench.ledger.held = False

    results = await bench.send(*(submission(user, 1) for user in range(1, 1001)))

    assert len(results) == 1000
    assert [len(flush.placed) for flush in bench.ledger.flushes] == [512, 488]
    assert bench.ledger.users(0) + bench.ledger.users(1) == list(range(1, 1001))


async def test_results_come_in_the_order_of_the_call(bench: Bench) -> None:
    """Each position has its own result, errors included."""
    bench.ledger.held = False
    items = [submission(user, 1) for user in (1, 2, 3)]
    bench.ledger.errors[items[1].submission_id] = LedgerUnavailable()

    results = await bench.send(*items)

    assert isinstance(results[0], Settled)
    assert isinstance(results[1], LedgerUnavailable)
    assert isinstance(results[2], Settled)
    assert results[2].recorded.submission_id == items[2].submission_id


async def test_a_shard_that_missed_the_apply_is_told(bench: Bench) -> None:
    """The write stands, and its answer says that the index does not show it yet."""
    bench.ledger.held = False
    bench.index.missed = frozenset({(1, 2)})

    results = await bench.send(submission(1, 1), submission(2, 1))

    assert [result.indexed for result in results if isinstance(result, Settled)] == [True, False]


async def test_a_bug_in_the_index_does_not_take_back_a_commit(bench: Bench) -> None:
    """What is committed is acknowledged, as not indexed."""
    bench.ledger.held = False
    bench.index.error = RuntimeError("a bug")

    results = await bench.send(submission(1, 1), submission(2, 1))

    assert [result.indexed for result in results if isinstance(result, Settled)] == [False, False]


async def test_a_write_is_told_between_its_apply_and_its_answer(bench: Bench) -> None:
    """Whoever keeps answers learns of it when a new read shows it, and before its caller does."""
    bench.ledger.held = False
    bench.index.gate = asyncio.Event()
    item = submission(1, 1)
    call = bench.send(item)
    await bench.index.asked.wait()
    assert bench.observer.writes == []

    bench.index.gate.set()
    await call

    assert [written.submission_id for _, written in bench.observer.writes] == [item.submission_id]
    assert [change.shard for change in bench.observer.changes] == [1]
    assert bench.observer.answered == [False]


async def test_a_write_that_missed_the_index_is_told_too(bench: Bench) -> None:
    """The healer brings it, and what was kept before is not to outlive that."""
    bench.ledger.held = False
    bench.index.error = RuntimeError("a bug")
    refused = submission(2, 1)
    bench.ledger.errors[refused.submission_id] = LedgerUnavailable()

    await bench.send(submission(1, 1), refused)

    assert len(bench.observer.writes) == 1
    assert bench.observer.answered == [False]
    assert bench.observer.missed == {(bench.observer.writes[0][1].season.number, 1)}


async def test_an_abandoned_call_is_recorded_all_the_same(bench: Bench) -> None:
    """A caller who goes away does not stop the flush that carries its submission."""
    call = bench.send(submission(1, 1))
    other = bench.send(submission(2, 1))
    await bench.ledger.until(1)
    call.cancel()
    bench.ledger.gates[0].set()

    assert isinstance((await other)[0], Settled)
    assert bench.ledger.users(0) == [1, 2]


async def test_a_changed_board_is_looked_up_in_the_same_flush(bench: Bench) -> None:
    """The submission goes again with the new definition, in its old place and arrival."""
    changed = submission(2, 1)
    bench.ledger.errors[changed.submission_id] = BoardChanged()
    bench.boards.board = Board(1, board_spec(max_score=9), Season(1, "s1"), 2, 0, 0)
    call = bench.send(submission(1, 1), changed)
    await bench.ledger.until(1)
    bench.ledger.gates[0].set()
    await bench.ledger.until(2)
    del bench.ledger.errors[changed.submission_id]
    bench.ledger.gates[1].set()

    results = await call

    assert all(isinstance(result, Settled) for result in results)
    again = bench.ledger.flushes[1]
    assert again.arrival == bench.ledger.flushes[0].arrival
    assert [(placed.place, placed.board.version) for placed in again.placed] == [(1, 2)]
    assert [board.version for board, _ in bench.observer.writes] == [1, 2]


async def test_a_board_that_is_gone_is_said_to_be(bench: Bench) -> None:
    """Looking up a changed board may find that there is none."""
    bench.ledger.held = False
    item = submission(1, 1)
    bench.ledger.errors[item.submission_id] = BoardChanged()

    (result,) = await bench.send(item)

    assert isinstance(result, BoardNotFound)


async def test_too_much_waiting_is_refused_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that does not fit is not taken in part, and there is room again once some settle."""
    monkeypatch.setattr(batching, "_UNSETTLED_MAX", 10)
    first = bench.send(*(submission(user, 1) for user in range(1, 9)))
    with pytest.raises(QueueFull):
        bench.send(*(submission(user, 1) for user in range(20, 23)))
    await bench.ledger.until(1)
    bench.ledger.gates[0].set()
    await first

    bench.send(*(submission(user, 1) for user in range(20, 23)))
    await bench.ledger.until(2)
    assert bench.ledger.users(1) == [20, 21, 22]


async def test_a_bug_in_the_ledger_fails_the_calls_and_frees_the_users(bench: Bench) -> None:
    """Nobody waits for ever behind a broken flush."""
    item = submission(1, 1)
    bench.ledger.errors[item.submission_id] = RuntimeError("a bug")
    bench.ledger.held = False

    with pytest.raises(RuntimeError):
        await bench.send(item)

    assert isinstance((await bench.send(submission(1, 2)))[0], Settled)


async def test_draining_waits_for_everything(bench: Bench) -> None:
    """Drain returns only when each taken submission is settled."""
    calls = [bench.send(submission(user, 1)) for user in range(1, 6)]
    await bench.ledger.until(1)
    drained = asyncio.ensure_future(bench.batcher.drain())
    await asyncio.sleep(0)
    assert not drained.done()

    bench.ledger.gates[0].set()
    await drained

    assert all(call.done() for call in calls)


async def test_a_ledger_that_is_shut_is_not_waited_for(bench: Bench) -> None:
    """While both flushes are stuck, what comes is refused at once and not put in line."""
    for user in (1, 2):
        bench.send(submission(user, 1))
        await bench.ledger.until(user)
    bench.ledger.shut = LedgerUnavailable(retry_after_ms=700)

    results = await bench.send(submission(3, 1), submission(4, 1))

    assert results == [bench.ledger.shut] * 2
    bench.ledger.shut = None
    for gate in bench.ledger.gates:
        gate.set()
    await bench.batcher.drain()
    assert len(bench.ledger.flushes) == 2


async def test_who_has_gone_is_taken_out_of_the_line(bench: Bench) -> None:
    """Submissions whose caller gave up before they were sealed are not recorded; those that are
    on their way are.
    """
    sent = []
    for user in range(1, 3):
        sent.append(bench.send(submission(user, 1)))
        await bench.ledger.until(user)
    sent += [bench.send(submission(user, 1), submission(user + 10, 1)) for user in (3, 4, 5)]
    await asyncio.sleep(0)
    for call in (sent[0], sent[2], sent[4]):
        call.cancel()

    for gate in bench.ledger.gates:
        gate.set()
    await bench.ledger.until(3)
    bench.ledger.gates[2].set()
    await bench.batcher.drain()

    assert [bench.ledger.users(number) for number in range(3)] == [[1], [2], [4, 14]]
    assert bench.batcher._unsettled == 0


async def test_who_would_be_answered_too_late_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While flushes take longer than a caller has, it is told at once, and its place goes to one
    who has the time; alone it is tried.
    """
    loop = asyncio.get_running_loop()
    now_s = loop.time()
    with monkeypatch.context() as clock:
        clock.setattr(loop, "time", lambda: now_s)
        slow = bench.send(submission(1, 1))
        await bench.ledger.until(1)
        now_s += 20
        bench.ledger.gates[0].set()
        await slow

        bench.deadline_s = now_s + 1
        alone = bench.send(submission(2, 1))
        await bench.ledger.until(2)
        hurried = bench.send(submission(3, 1), submission(4, 1))
        bench.deadline_s = now_s + 100
        patient = bench.send(submission(5, 1))
        await bench.ledger.until(3)

        assert [type(result) for result in await hurried] == [QueueFull, QueueFull]
        assert [bench.ledger.users(number) for number in (1, 2)] == [[2], [5]]
    for gate in bench.ledger.gates:
        gate.set()
    assert [isinstance((await call)[0], Settled) for call in (alone, patient)] == [True, True]
    assert bench.batcher._unsettled == 0
