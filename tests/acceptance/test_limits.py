"""What reads refuse: whatever is beyond a limit, and tokens of other questions. Over the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings_client import AsyncClient, Board, InvalidArgument, PageTokenInvalid, Submission
from tests.fixtures.redis import empty
from tests.fixtures.server import RunningServer, Serve, settings_for

pytestmark = pytest.mark.both_transports


async def _fill(client: AsyncClient, board_id: str = "arena") -> None:
    """A board on which user n, of 1 to 30, has n points."""
    await client.boards.create(Board(board_id=board_id))
    await client.batch_submit_scores([Submission(board_id, user, user) for user in range(1, 31)])


async def test_a_limit_is_named_to_who_passes_it(standings: RunningServer) -> None:
    """Refused as a whole, with the field and the limit."""
    client = standings.client
    await _fill(client)

    for call, field, limit in (
        (client.list_entries("arena", page_size=1_001), "page_size", "1000"),
        (client.list_entries("arena", page_size=-1), "page_size", "1000"),
        (client.list_entries("arena", start_rank=0), "start_rank", "1"),
        (client.list_entries_around("arena", user_id=3, above=101), "above", "100"),
        (client.list_entries_around("arena", score=3, below=101), "below", "100"),
        (client.batch_get_entries("arena", range(1, 1_002)), "user_ids", "1000"),
        (client.estimate_rank("arena", 3, target_rank=0), "target_rank", "1"),
        (client.estimate_rank("arena", 3, target_percent=101), "target_percent", "100"),
        (client.get_percentile("arena", 100.5), "percent", "100"),
    ):
        with pytest.raises(InvalidArgument) as refused:
            await call
        (violation,) = refused.value.violations
        assert violation.field == field
        assert limit in violation.description


async def test_the_greatest_page_and_list_are_whole(standings: RunningServer) -> None:
    """1,000 entries where 1,000 are asked for, in a page and by name."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))
    users = range(1, 1_002)
    for first in (0, 1_000):
        await client.batch_submit_scores(
            [Submission("arena", user, user) for user in users[first : first + 1_000]]
        )

    page = await client.list_entries("arena", page_size=1_000)
    friends = await client.batch_get_entries("arena", users[:1_000])
    around = await client.list_entries_around("arena", user_id=500, above=100, below=100)

    assert [entry.user_id for entry in page.entries] == [*reversed(users)][:1_000]
    assert page.next_page_token
    assert len(friends.entries) == 1_000
    assert [entry.user_id for entry in around.entries] == [*range(600, 399, -1)]


async def test_too_many_watches_are_refused(
    database: str, redis_cluster: EmbeddedRedisCluster, serve: Serve
) -> None:
    """Beyond the number that a caller may have RESOURCE_EXHAUSTED with that number named; one that
    ends makes room.
    """
    await empty(redis_cluster)
    settings = settings_for(database, redis_cluster)
    watch = settings.watch.model_copy(update={"watches_per_caller_max": 3})
    settings = settings.model_copy(update={"watch": watch})
    request = pb.WatchEntriesRequest(board_id="arena", top_count=5)
    async with serve(settings) as addresses, AsyncClient(addresses.public) as client:
        await _fill(client)
        async with grpc.aio.insecure_channel(addresses.public) as channel:
            stub = pb_grpc.RankingServiceStub(channel)
            calls = [stub.WatchEntries(request) for _ in range(3)]
            for call in calls:
                assert len((await call.read()).entries) == 5

            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.WatchEntries(request).read()

            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "3" in (refused.value.details() or "")
            calls[0].cancel()
            async with asyncio.timeout(15):
                while True:
                    try:
                        assert len((await stub.WatchEntries(request).read()).entries) == 5
                        break
                    except grpc.aio.AioRpcError:
                        continue


async def test_a_watch_of_too_much_is_refused(standings: RunningServer) -> None:
    """INVALID_ARGUMENT, with the field and the limit."""
    await _fill(standings.client)
    whom: Mapping[str, Any] = {"board_id": "arena", "user_ids": [3]}
    soon = duration_pb2.Duration(nanos=99_000_000)

    async with standings.channel() as channel:
        stub = pb_grpc.RankingServiceStub(channel)
        for request, field, limit in (
            (pb.WatchEntriesRequest(board_id="arena", top_count=1_001), "top_count", "1000"),
            (pb.WatchEntriesRequest(board_id="arena"), "top_count", "1000"),
            (pb.WatchEntriesRequest(board_id="arena", user_ids=range(1, 102)), "user_ids", "100"),
            (pb.WatchEntriesRequest(**whom, min_interval=soon), "min_interval", "0.1 s"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.WatchEntries(request).read()
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert field in (refused.value.details() or "")
            assert limit in (refused.value.details() or "")


async def test_a_page_token_is_good_for_its_own_question_only(standings: RunningServer) -> None:
    """Of another board or range, changed, cut or made up: INVALID_ARGUMENT. The page's size and
    the rank mode may change.
    """
    client = standings.client
    await _fill(client)
    await _fill(client, "beach")
    token = (await client.list_entries("arena", page_size=7)).next_page_token
    ranged = (await client.list_entries("arena", page_size=7, min_score=5)).next_page_token
    of_boards = (await client.boards.list(page_size=1)).next_page_token
    middle = len(token) // 2
    changed = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
    assert token
    assert ranged
    assert of_boards

    for board_id, bad, scores in (
        ("beach", token, {}),
        ("arena", token, {"min_score": 5}),
        ("arena", ranged, {}),
        ("arena", ranged, {"min_score": 4}),
        ("arena", ranged, {"min_score": 5, "max_score": 29}),
        ("arena", changed, {}),
        ("arena", token[:-1], {}),
        ("arena", token + "A", {}),
        ("arena", of_boards, {}),
        ("arena", "x", {}),
    ):
        with pytest.raises(PageTokenInvalid):
            await client.list_entries(board_id, page_token=bad, **scores)
    with pytest.raises(InvalidArgument, match="start_rank"):
        await client.list_entries("arena", page_token=token, start_rank=1)
    page = await client.list_entries("arena", page_token=token, page_size=3)
    assert [entry.user_id for entry in page.entries] == [23, 22, 21]
    page = await client.list_entries("arena", page_token=ranged, page_size=100, min_score=5)
    assert [entry.user_id for entry in page.entries] == [*range(23, 4, -1)]
