"""The healer and the builder on real stores: the index becomes equal to the ledger."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from core.clock import SystemClock
from core.errors import IndexUnbuilt
from core.list_shards import ListShards
from core.ports import Freshness
from core.types import Board, Operator, ShardState
from jobs.purge_boards import PurgeBoards
from storage import history
from tests.fakes.making import board_spec, submission
from tests.fixtures.keeping import Kept
from tests.fixtures.redis import empty

pytestmark = pytest.mark.both_engines

USERS = range(1, 101)


async def test_a_transaction_that_was_never_applied_is_replayed(kept: Kept) -> None:
    """The worker died after its commit: one step of the healer brings what it left."""
    board = await kept.boards.create(board_spec(operator=Operator.INCREMENT))
    await kept.build.season(board.season.number)
    await kept.apply(await kept.record(board, [submission(user, 1) for user in USERS]))
    await kept.record(board, [submission(user, 5) for user in range(201, 301)])
    assert await kept.shown(board) != await kept.truth(board)

    await kept.catch_up()

    assert await kept.shown(board) == await kept.truth(board)


async def test_checkpoints_follow_the_horizon_and_say_when(kept: Kept) -> None:
    """With nothing missing every shard's mark passes the last transaction."""
    board = await kept.boards.create(board_spec())
    await kept.build.season(board.season.number)
    result = await kept.record(board, [submission(user, 1) for user in USERS])
    await kept.apply(result)

    await kept.catch_up()

    reports = await ListShards(kept.history, kept.keeping, SystemClock())()
    assert all(report.watermark > max(result.changes) for report in reports)
    assert {report.state for report in reports} == {ShardState.READY}
    assert all(report.lag_ms is not None and report.lag_ms < 10_000 for report in reports)
    assert sum(report.entry_count for report in reports) == len(USERS)


async def test_an_open_transaction_holds_the_time_of_all_shards_back(kept: Kept) -> None:
    """What committed after it began may be missing as long as it is open: a read tells so."""
    board = await kept.boards.create(board_spec())
    await kept.build.season(board.season.number)
    await kept.catch_up()
    async with await psycopg.AsyncConnection.connect(kept.dsn) as other:
        await other.execute("select pg_current_xact_id()")
        began_ms = SystemClock().now_ms()
        await kept.record(board, [submission(user, 1) for user in USERS])
        await kept.heal()
        await kept.heal()

        assert await kept.shown(board) == []
        assert await _caught_up_ms(kept, board) <= began_ms

    await kept.catch_up()

    assert await kept.shown(board) == await kept.truth(board)
    assert await _caught_up_ms(kept, board) > began_ms


async def test_a_backlog_of_several_steps_is_not_caught_up_before_its_end(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step replays a few transactions; the time moves when the last of them is in."""
    monkeypatch.setattr(history, "_TRANSACTIONS_MAX", 2)
    board = await kept.boards.create(board_spec())
    await kept.build.season(board.season.number)
    await kept.catch_up()
    before_ms = SystemClock().now_ms()
    results = [await kept.record(board, [submission(user, 1)]) for user in range(1, 8)]
    last = max(xid for result in results for xid in result.changes)

    behind = 0
    async with asyncio.timeout(30):
        while min(status.checkpoint or 0 for status in await kept.keeping.shards([])) <= last:
            assert await _caught_up_ms(kept, board) <= before_ms
            behind += 1
            await kept.heal()

    assert behind > 3
    await kept.catch_up()
    assert await _caught_up_ms(kept, board) > before_ms


async def _caught_up_ms(kept: Kept, board: Board) -> int:
    page = await kept.index.page_at(board.season.number, offset=0, limit=1, fresh=Freshness())
    return page.view.caught_up_ms


async def test_a_late_apply_after_healing_changes_nothing(kept: Kept) -> None:
    """What the healer has brought is not undone by the worker that comes late."""
    board = await kept.boards.create(board_spec(operator=Operator.SET))
    await kept.build.season(board.season.number)
    late = await kept.record(board, [submission(user, 9) for user in USERS])
    await kept.apply(await kept.record(board, [submission(user, user) for user in USERS]))
    await kept.catch_up()

    await kept.apply(late)

    assert await kept.shown(board) == await kept.truth(board)


async def test_applies_in_the_wrong_order_leave_the_newest(kept: Kept) -> None:
    """An apply that is overtaken by a newer one of the same users is passed over."""
    board = await kept.boards.create(board_spec(operator=Operator.SET))
    await kept.build.season(board.season.number)
    first = await kept.record(board, [submission(user, 9) for user in USERS])
    second = await kept.record(board, [submission(user, user) for user in USERS])

    await kept.apply(second)
    await kept.apply(first)

    assert await kept.shown(board) == await kept.truth(board)


async def test_an_empty_redis_is_unbuilt_and_then_built(kept: Kept) -> None:
    """After a flush no read is answered until all is there again, and then it is equal."""
    board = await kept.boards.create(board_spec())
    other = await kept.boards.create(board_spec("other"))
    await kept.build_missing()
    await kept.apply(await kept.record(board, [submission(user, user) for user in USERS]))
    await empty(kept.cluster)
    with pytest.raises(IndexUnbuilt):
        await kept.shown(board)
    await kept.heal()
    with pytest.raises(IndexUnbuilt):
        await kept.shown(board)

    await kept.build_missing()

    assert await kept.shown(board) == await kept.truth(board)
    assert await kept.shown(other) == []


async def test_a_shard_that_missed_more_than_the_outbox_keeps_is_built_anew(kept: Kept) -> None:
    """A shard that was away for longer than transactions are kept cannot be caught up."""
    board = await kept.boards.create(board_spec())
    await kept.build.season(board.season.number)
    await kept.record(board, [submission(user, user) for user in USERS])
    await kept.execute("update outbox set record_time = now() - interval '2 days'")
    await kept.retention.trim_outbox()

    await kept.catch_up()
    with pytest.raises(IndexUnbuilt):
        await kept.shown(board)
    await kept.build_missing()
    await kept.catch_up()

    assert await kept.shown(board) == await kept.truth(board)


async def test_a_reset_shard_shows_no_season_until_that_one_is_built(kept: Kept) -> None:
    """A new mark speaks for the seasons built since, and for none that was there before."""
    old = await kept.boards.create(board_spec("old"))
    await kept.build.season(old.season.number)
    await kept.apply(
        await kept.record(old, [submission(user, 1, board_id="old") for user in USERS])
    )
    await kept.record(old, [submission(user, 2, board_id="old") for user in USERS])
    for shard in range(16):
        await kept.keeping.reset(shard)
    new = await kept.boards.create(board_spec("new"))
    await kept.build.season(new.season.number)

    await kept.catch_up()
    with pytest.raises(IndexUnbuilt):
        await kept.shown(old)
    assert await kept.shown(new) == []

    await kept.build_missing()
    assert await kept.shown(old) == await kept.truth(old)


async def test_many_boards_are_made_at_once(kept: Kept) -> None:
    """Builds take their turns: none is refused for want of a connection."""
    boards = [await kept.boards.create(board_spec(f"b{number}")) for number in range(40)]

    await asyncio.gather(*(kept.build.season(board.season.number) for board in boards))

    for board in boards:
        assert await kept.shown(board) == []


async def test_two_builders_at_once_leave_one_whole_copy(kept: Kept) -> None:
    """Whoever loses the copy gives up; what is read is whole."""
    board = await kept.boards.create(board_spec())
    await kept.record(board, [submission(user, user) for user in USERS])
    season = board.season.number
    start = await kept.history.point()
    assert await kept.keeping.begin(season, 3, token="theirs", start=start)

    await kept.build.season(season)

    assert not await kept.keeping.swap(season, 3, token="theirs", chunks=0)
    assert await kept.shown(board) == await kept.truth(board)


async def test_a_deleted_board_leaves_nothing_in_either_store(kept: Kept) -> None:
    """The purge empties the table and the index, and a late apply brings nothing back."""
    board = await kept.boards.create(board_spec())
    await kept.build.season(board.season.number)
    result = await kept.record(board, [submission(user, user) for user in USERS])
    await kept.apply(result)
    await kept.boards.delete("board", etag="")
    await kept.execute("update boards set delete_time = now() - interval '1 minute'")

    await PurgeBoards(kept.retention, kept.keeping)()
    await kept.apply(result)

    assert await kept.execute("select user_id from entries") == []
    with pytest.raises(IndexUnbuilt):
        await kept.shown(board)
    assert await kept.retention.deleted_seasons() == []
