"""The outbox, horizons and loads that the index is caught up and built from."""

import psycopg
import pytest

from core.ordering import EntryState, Item, Ordering, decode_item, encode_item
from core.types import INT64_MAX, INT64_MIN, Operator, SortOrder
from tests.fakes.making import board_spec, submission
from tests.integration.storage.conftest import Store

pytestmark = pytest.mark.every_way


async def test_postgres_and_python_make_the_same_bytes(store: Store) -> None:
    """Items of all directions and extremes are byte for byte those of core.ordering."""
    numbers = [INT64_MIN, -1, 0, 1, INT64_MAX]
    for first in SortOrder:
        for second in SortOrder:
            spec = board_spec(
                f"b{first}{second}",
                sort_order=first,
                subscore_sort_order=second,
                operator=Operator.SET,
            )
            board = await store.create(spec)
            batch = [
                submission(user, score, subscore)
                for user, (score, subscore) in enumerate(
                    ((a, b) for a in numbers for b in numbers), start=1
                )
            ]
            result = await store.flush(board, *batch)

            (changes,) = result.changes.values()
            for change in changes:
                item = decode_item(change.item)
                source = batch[item.user_id - 1]
                arrival = int.from_bytes(item.prefix[16:], "big")
                key = Ordering.of(spec).key(source.score, source.subscore, arrival, item.user_id)

                assert change.item == encode_item(
                    Item(item.user_id, key[:24], 1, EntryState.LIVE, item.achieve_time_ms)
                )
            loaded = await store.history.load(board.season.number, 1, after_user_id=0, limit=100)
            own = sorted(change.item for change in changes if change.shard == 1)
            assert loaded.items == b"".join(own)
            await store.execute("delete from outbox")


async def test_changes_tell_every_transaction_that_touched_the_index(store: Store) -> None:
    """One row a transaction, with its shards and users; what changed nothing is not told."""
    board = await store.create(board_spec())
    since = await store.history.horizon()
    first = await store.flush(board, submission(1, 5), submission(17, 5), submission(2, 5))
    await store.flush(board, submission(1, 4))
    third = await store.flush(board, submission(3, 5))

    changes = await store.history.changes(since)

    season = board.season.number
    assert [(t.xid, t.shards, sorted(t.users)) for t in changes.transactions] == [
        (next(iter(first.changes)), 0b110, [(season, 1), (season, 2), (season, 17)]),
        (next(iter(third.changes)), 0b1000, [(season, 3)]),
    ]
    assert changes.horizon > changes.transactions[-1].xid
    assert changes.trimmed_below == 0


async def test_an_open_transaction_holds_the_horizon_back(store: Store) -> None:
    """What may still commit is not passed over; what has committed since is known to be there."""
    board = await store.create(board_spec())
    async with await psycopg.AsyncConnection.connect(store.dsn) as other:
        cursor = await other.execute("select pg_current_xact_id()::text::bigint")
        (open_xid,) = await cursor.fetchone() or (0,)
        later = await store.flush(board, submission(1, 5))

        changes = await store.history.changes(0)

        assert changes.horizon <= open_xid < max(later.changes) < changes.newest
        assert [t for t in changes.transactions if t.xid >= open_xid] == []


async def test_trimming_remembers_how_far_it_went(store: Store) -> None:
    """A shard that is further behind than the outbox reaches can tell so."""
    board = await store.create(board_spec())
    old = await store.flush(board, submission(1, 5))
    await store.execute("update outbox set record_time = now() - interval '25 hours'")
    new = await store.flush(board, submission(2, 5))

    await store.retention.trim_outbox()

    changes = await store.history.changes(0)
    assert [t.xid for t in changes.transactions] == list(new.changes)
    assert changes.trimmed_below == next(iter(old.changes)) + 1


async def test_loads_walk_a_season_in_chunks(store: Store) -> None:
    """Chunks follow each other by user id and leave out rows that only hold a lock."""
    board = await store.create(board_spec(max_score=10))
    await store.flush(board, *(submission(user, 1) for user in range(1, 100)))
    await store.flush(board, submission(100 * 16 + 3, 11))

    users: list[int] = []
    after = 0
    while True:
        chunk = await store.history.load(board.season.number, 3, after_user_id=after, limit=3)
        items = [chunk.items[at : at + 44] for at in range(0, len(chunk.items), 44)]
        assert len(items) == chunk.count
        users += [decode_item(item).user_id for item in items]
        after = chunk.last_user_id
        if chunk.count < 3:
            break

    assert users == [3, 19, 35, 51, 67, 83, 99]


async def test_items_are_the_entries_of_now(store: Store) -> None:
    """A replay brings the current entry, not the one of its transaction."""
    board = await store.create(board_spec())
    await store.flush(board, submission(5, 1))
    await store.flush(board, submission(5, 2))

    (change,) = await store.history.items(5, [(board.season.number, 5), (board.season.number, 21)])

    assert decode_item(change.item).revision == 2


async def test_seasons_of_deleted_boards_are_not_to_be_held(store: Store) -> None:
    """The index is asked for living boards only; new ones can be left alone for a while."""
    kept = await store.create(board_spec("kept"))
    await store.create(board_spec("gone"))
    await store.boards.delete("gone", etag="")

    assert await store.history.season_numbers() == [kept.season.number]
    assert await store.history.season_numbers(older_than_s=3600) == []
