"""A score goes in, its exact rank comes out: the whole way, over the wire."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from standings.v1 import admin_service_pb2 as admin_pb
from standings.v1 import admin_service_pb2_grpc as admin_grpc
from standings_client import (
    Aborted,
    AlreadyExists,
    Board,
    BoardExists,
    BoardNotFound,
    EntryNotFound,
    EntryView,
    InvalidArgument,
    NotFound,
    Operator,
    Outcome,
    RankMode,
    SortOrder,
    Source,
    Submission,
)
from tests.fixtures.server import RunningServer

pytestmark = pytest.mark.both_transports

_SERVING = health_pb2.HealthCheckResponse.SERVING


async def test_a_submission_is_ranked_at_once(standings: RunningServer) -> None:
    """The answer to a submission carries its new rank and what was before."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    await client.submit_score("arena", 1, 100)
    await client.submit_score("arena", 2, 50)

    result = await client.submit_score("arena", 2, 150, return_rank=True)

    assert (result.outcome, result.indexed) == (Outcome.APPLIED, True)
    assert result.entry is not None
    assert (result.entry.rank, result.entry.score) == (1, 150)
    assert result.previous_entry is not None
    assert result.previous_entry.score == 50


async def test_a_retry_counts_once_and_tells_the_first_outcome(standings: RunningServer) -> None:
    """The same id again: DUPLICATE, with the stored outcome beside it."""
    client = standings.client
    await client.boards.create(Board(board_id="arena", operator=Operator.INCREMENT))
    first = await client.submit_score("arena", 1, 5)

    again = await client.submit_score("arena", 1, 5, submission_id=first.submission_id)

    assert (again.outcome, again.first_outcome) == (Outcome.DUPLICATE, Outcome.APPLIED)
    assert again.indexed
    assert (await client.get_entry("arena", 1)).entry.score == 5
    with pytest.raises(AlreadyExists):
        await client.submit_score("arena", 1, 6, submission_id=first.submission_id)


async def test_ties_stand_by_arrival_or_share_a_rank(standings: RunningServer) -> None:
    """1, 2, 3, 4 by who came first; 1, 2, 2, 4 where equals share."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    for user, score in ((9, 20), (5, 10), (2, 10), (7, 1)):
        await client.submit_score("arena", user, score)

    ordinal = await client.list_entries("arena")
    shared = await client.list_entries("arena", rank_mode=RankMode.COMPETITION)

    assert [(entry.user_id, entry.rank) for entry in ordinal.entries] == [
        (9, 1),
        (5, 2),
        (2, 3),
        (7, 4),
    ]
    assert [entry.rank for entry in shared.entries] == [1, 2, 2, 4]
    for user, rank in ((2, 2), (7, 4)):
        answer = await client.get_entry("arena", user, rank_mode=RankMode.COMPETITION)
        assert (answer.entry.rank, answer.entry.rank_low, answer.entry.rank_high) == (rank,) * 3


async def test_a_walk_over_pages_meets_everyone_once(standings: RunningServer) -> None:
    """Tokens lead through the board, ranks go on, and the last page has no token."""
    client = standings.client
    await client.boards.create(Board(board_id="arena", sort_order=SortOrder.ASCENDING))
    await client.batch_submit_scores([Submission("arena", user, user % 7) for user in range(1, 96)])
    walked, token = [], ""
    while True:
        page = await client.list_entries(
            "arena", page_size=10, page_token=token, rank_mode=RankMode.COMPETITION
        )
        walked += page.entries
        token = page.next_page_token
        if not token:
            break

    assert [entry.user_id for entry in walked] == sorted(range(1, 96), key=lambda u: (u % 7, u))
    below = [sum(1 for user in range(1, 96) if user % 7 < entry.score) for entry in walked]
    assert [entry.rank for entry in walked] == [count + 1 for count in below]
    middle = await client.list_entries("arena", page_size=3, start_rank=50)
    assert [(e.user_id, e.rank) for e in middle.entries] == [
        (entry.user_id, rank) for rank, entry in enumerate(walked[49:52], start=50)
    ]


async def test_friends_are_ranked_among_themselves(standings: RunningServer) -> None:
    """Found ones best first with both ranks, missing ones by name."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    await client.batch_submit_scores([Submission("arena", user, user) for user in range(1, 101)])

    answer = await client.batch_get_entries("arena", [5, 900, 40, 5, 17])

    assert [(e.user_id, e.rank, e.list_rank) for e in answer.entries] == [
        (40, 61, 1),
        (17, 84, 2),
        (5, 96, 3),
    ]
    assert list(answer.missing_user_ids) == [900]
    nobody = await client.batch_get_entries("arena", [901, 902])
    assert (list(nobody.entries), list(nobody.missing_user_ids)) == ([], [901, 902])
    assert (nobody.meta.entry_count, answer.meta.entry_count) == (100, 100)


async def test_the_full_view_knows_what_the_index_does_not(standings: RunningServer) -> None:
    """Count, time and metadata come with FULL only; the achievement's time always."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    before = datetime.now(UTC)
    await client.submit_score("arena", 1, 5, metadata={"hero": "fox"})
    await client.submit_score("arena", 1, 4)

    basic = (await client.get_entry("arena", 1)).entry
    full = (await client.get_entry("arena", 1, view=EntryView.FULL)).entry

    assert (basic.submission_count, basic.metadata) == (0, None)
    assert (full.submission_count, full.metadata) == (2, {"hero": "fox"})
    assert full.achieve_time == basic.achieve_time
    assert basic.achieve_time is not None
    assert abs((basic.achieve_time - before).total_seconds()) < 60


async def test_an_answer_says_where_it_comes_from(standings: RunningServer) -> None:
    """The index, exact, all 16 shards, so many entries."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    await client.batch_submit_scores([Submission("arena", user, user) for user in range(1, 31)])

    meta = (await client.get_entry("arena", 3)).meta

    assert (meta.source, meta.stale, meta.shards_answered) == (Source.INDEX, False, 16)
    assert (meta.season_id, meta.entry_count) == ("s1", 30)
    assert meta.epoch > 0


async def test_what_is_not_there_is_not_found(standings: RunningServer) -> None:
    """A board, a user and a season that do not exist are told apart."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))

    with pytest.raises(BoardNotFound):
        await client.submit_score("nowhere", 1, 1)
    with pytest.raises(BoardNotFound):
        await client.get_entry("nowhere", 1)
    with pytest.raises(EntryNotFound):
        await client.get_entry("arena", 1)
    with pytest.raises(NotFound, match="season"):
        await client.list_entries("arena", season_id="s2")
    assert list((await client.list_entries("arena")).entries) == []


async def test_boards_are_made_changed_listed_and_ended(standings: RunningServer) -> None:
    """The whole life of a definition, with lost updates refused."""
    boards = standings.client.boards
    made = await boards.create(Board(board_id="arena", title="Arena", max_score=10))
    with pytest.raises(BoardExists):
        await boards.create(Board(board_id="arena"))
    await boards.create(Board(board_id="beach"))

    changed = await boards.update(Board(board_id="arena", title="Hall"), fields=("title",))
    assert (changed.title, changed.max_score) == ("Hall", 10)
    with pytest.raises(Aborted):
        await boards.delete("arena", etag=made.etag)
    page = await boards.list(page_size=1)
    assert [board.board_id for board in page.boards] == ["arena"]
    rest = await boards.list(page_size=1, page_token=page.next_page_token)
    assert [board.board_id for board in rest.boards] == ["beach"]

    await boards.delete("arena", etag=changed.etag)
    with pytest.raises(BoardNotFound):
        await boards.get("arena")


async def test_a_new_board_of_an_old_name_is_empty(standings: RunningServer) -> None:
    """Deleting a board ends its entries, its ids and its tokens with it."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    await client.batch_submit_scores([Submission("arena", user, 1) for user in range(1, 31)])
    token = (await client.list_entries("arena", page_size=5)).next_page_token
    await client.boards.delete("arena")
    await client.boards.create(Board(board_id="arena", sort_order=SortOrder.ASCENDING))

    assert list((await client.list_entries("arena")).entries) == []
    with pytest.raises(InvalidArgument):
        await client.list_entries("arena", page_token=token)
    result = await client.submit_score("arena", 1, 7, return_rank=True)
    assert result.entry is not None
    assert (result.entry.score, result.entry.rank, result.previous_entry) == (7, 1, None)


async def test_a_changed_bound_holds_for_the_next_submission(standings: RunningServer) -> None:
    """What the definition says now decides, and a rejected score changes nothing."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    await client.submit_score("arena", 1, 50)
    await client.boards.update(Board(board_id="arena", max_score=60), fields=("max_score",))

    result = await client.submit_score("arena", 1, 70)

    assert result.outcome is Outcome.REJECTED
    assert (await client.get_entry("arena", 1)).entry.score == 50


async def test_one_stream_answers_every_submission(standings: RunningServer) -> None:
    """Each future has its own result, bad ones included, and the rest goes on."""
    client = standings.client
    await client.boards.create(Board(board_id="arena", operator=Operator.INCREMENT))

    async with client.stream_submitter() as submitter:
        futures = [await submitter.submit("arena", user % 50 + 1, 1) for user in range(2_000)]
        lost = await submitter.submit("nowhere", 1, 1)

    assert all([(await future).indexed for future in futures])  # awaits
    with pytest.raises(BoardNotFound):
        await lost
    page = await client.list_entries("arena", page_size=100)
    assert [entry.score for entry in page.entries] == [40] * 50


async def test_health_tells_the_stores_and_the_services(standings: RunningServer) -> None:
    """Both listeners serve, and each store has its own name."""
    for address in (standings.address, standings.admin_address):
        async with grpc.aio.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            async with asyncio.timeout(10):
                for name in ("", "postgres", "redis"):
                    request = health_pb2.HealthCheckRequest(service=name)
                    while (
                        await stub.Check(request)
                    ).status != health_pb2.HealthCheckResponse.SERVING:
                        pass


async def test_operators_see_the_shards(standings: RunningServer) -> None:
    """All 16, each on a node, in its slot, with its share of the entries."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    await client.batch_submit_scores([Submission("arena", user, 1) for user in range(16, 48)])

    async with grpc.aio.insecure_channel(standings.admin_address) as channel:
        stub = admin_grpc.AdminServiceStub(channel)
        answer = await stub.ListShards(admin_pb.ListShardsRequest())

    assert [shard.shard for shard in answer.shards] == list(range(16))
    assert {shard.entry_count for shard in answer.shards} == {2}
    assert {shard.state for shard in answer.shards} == {admin_pb.SHARD_STATE_READY}
    assert len({shard.node_address for shard in answer.shards}) == 3
    assert [shard.slot // 1024 for shard in answer.shards] == list(range(16))
