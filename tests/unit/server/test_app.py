"""The happy path of every method, and the start and end of a server."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from pydantic import ValidationError

from bootstrap.server_settings import ServerSettings
from core.types import EntryView, RankMode, ReadOptions
from server.app import Server
from server.health import Health
from standings.v1 import admin_service_pb2 as admin_pb
from standings.v1 import board_service_pb2 as board_pb
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2
from tests.unit.server.fakes import MINTED_ID, SOME_ID, Fakes, Serving, submission


async def test_submit_score(serving: Serving) -> None:
    """A submission goes in as a checked word of the core, and its result comes out whole."""
    answer = await serving.ranking.SubmitScore(submission(return_rank=True, subscore=7))
    ((given,),) = serving.fakes.arguments[0]

    assert (
        given.submission_id,
        given.board_id,
        given.user_id,
        given.score,
        given.subscore,
    ) == (MINTED_ID, "arena", 42, 10, 7)
    assert (
        answer.outcome,
        answer.first_outcome,
        answer.indexed,
        answer.consistency_token,
        answer.submission_id,
    ) == (types_pb2.OUTCOME_APPLIED, types_pb2.OUTCOME_APPLIED, True, "token", MINTED_ID)
    assert (
        answer.entry.rank,
        answer.entry.rank_low,
        answer.entry.rank_high,
        answer.entry.score,
        answer.entry.subscore,
    ) == (1, 1, 1, 10, 7)
    assert not answer.HasField("previous_entry")
    assert not answer.entry.HasField("update_time")


async def test_batch_submit_scores_keeps_places(serving: Serving) -> None:
    """A malformed item of a batch becomes a status in its place; the others are recorded."""
    request = pb.BatchSubmitScoresRequest(
        submissions=[submission(submission_id=SOME_ID), submission(user_id=0), submission()]
    )
    answer = await serving.ranking.BatchSubmitScores(request)

    assert [r.WhichOneof("result") for r in answer.results] == ["response", "error", "response"]
    assert answer.results[1].error.message.startswith("submissions[1].user_id: ")
    assert SOME_ID.lower() == answer.results[0].response.submission_id
    assert ("token", "") == (
        answer.consistency_token,
        answer.results[0].response.consistency_token,
    )


async def test_get_entry(serving: Serving) -> None:
    """A read goes in with its options and comes out with what it says about itself."""
    options = types_pb2.ReadOptions(
        rank_mode=types_pb2.RANK_MODE_COMPETITION,
        view=types_pb2.ENTRY_VIEW_FULL,
        consistency_token="abc",
        season_id="s1",
        allow_partial=True,
    )
    options.max_staleness.FromMilliseconds(1500)
    request = pb.GetEntryRequest(board_id="arena", user_id=42, options=options)
    answer = await serving.ranking.GetEntry(request)
    wanted = ReadOptions(
        RankMode.COMPETITION, EntryView.FULL, "abc", "s1", 1500, allow_partial=True
    )

    assert serving.fakes.arguments == [("arena", 42, wanted)]
    assert (answer.entry.rank, answer.entry.rank_low, answer.entry.rank_high) == (17, 17, 17)
    assert answer.entry.achieve_time.ToMilliseconds() == 1_700_000_000_123
    assert (
        answer.meta.shards_answered,
        list(answer.meta.shards_missing),
        answer.meta.season_id,
        answer.meta.epoch,
        answer.meta.entry_count,
    ) == (15, [4], "s1", 3, 99)
    assert answer.meta.as_of.ToMilliseconds() == 1_700_000_000_456


async def test_batch_get_entries(serving: Serving) -> None:
    """Repeated users are asked for once, in the order asked."""
    request = pb.BatchGetEntriesRequest(board_id="arena", user_ids=[9, 8, 9, 42])
    answer = await serving.ranking.BatchGetEntries(request)

    assert serving.fakes.arguments == [("arena", (9, 8, 42), ReadOptions())]
    assert (list(answer.missing_user_ids), answer.entries[0].list_rank) == ([8, 9], 1)


async def test_list_entries(serving: Serving) -> None:
    """A page size of 0 means 10."""
    request = pb.ListEntriesRequest(board_id="arena", start_rank=5)
    answer = await serving.ranking.ListEntries(request)
    ((board_id, arguments),) = serving.fakes.arguments

    assert (board_id, arguments["page_size"], arguments["start_rank"]) == ("arena", 10, 5)
    assert answer.next_page_token == "next"


async def test_boards(serving: Serving) -> None:
    """Every method of BoardService reaches its use case and answers with the stored board."""
    board = types_pb2.Board(board_id="arena", title="New", etag="5-2")
    created = await serving.boards.CreateBoard(board_pb.CreateBoardRequest(board=board))
    got = await serving.boards.GetBoard(board_pb.GetBoardRequest(board_id="arena"))
    listed = await serving.boards.ListBoards(board_pb.ListBoardsRequest())
    update = board_pb.UpdateBoardRequest(board=board, update_mask={"paths": ["title"]})
    updated = await serving.boards.UpdateBoard(update)
    delete = board_pb.DeleteBoardRequest(board_id="arena", etag="5-2")
    await serving.boards.DeleteBoard(delete)

    # What a change and an end are from is read for the audit.
    calls = ["create", "get", "list", "get", "update", "get", "delete"]
    assert serving.fakes.calls == calls
    assert created.board == got.board == listed.boards[0] == updated.board
    assert (listed.next_page_token, got.board.etag) == ("more", "5-2")
    assert serving.fakes.arguments[2:] == [
        (100, ""),
        ("arena",),
        ("arena", {"title": "New"}, "5-2"),
        ("arena",),
        ("arena", "5-2"),
    ]
    assert got.board.HasField("min_score")
    assert not got.board.HasField("max_score")
    assert got.board.metadata["mode"] == "duel"


async def test_list_shards_is_on_the_admin_listener_only(serving: Serving) -> None:
    """Operators see the shards; games do not."""
    answer = await serving.admin.ListShards(admin_pb.ListShardsRequest())
    stolen = serving.channel.unary_unary("/standings.v1.AdminService/ListShards")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stolen(b"")

    assert [shard.slot for shard in answer.shards] == [1159, 2165]
    assert answer.shards[0].lag.ToMilliseconds() == 1500
    assert not answer.shards[1].HasField("lag")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_taken_port_stops_the_start(serving: Serving, settings: ServerSettings) -> None:
    """When the admin address is taken, the public one is let go again."""
    taken = f"127.0.0.1:{serving.server.admin_port}"
    other = Server(
        Fakes().use_cases(serving.machine),
        settings.model_copy(update={"admin_address": taken}),
        Health(()),
    )

    with pytest.raises(RuntimeError):
        await other.start()


async def test_stop_lets_calls_finish(serving: Serving) -> None:
    """A call that runs when the end begins gets its answer."""
    gate = serving.fakes.gates[42] = asyncio.Event()
    running = asyncio.ensure_future(serving.ranking.SubmitScore(submission()))
    await serving.fakes.entered.wait()
    drained = asyncio.ensure_future(serving.health.changed())
    stopping = asyncio.create_task(serving.server.stop())
    await drained
    gate.set()
    answer = await running
    await stopping

    assert answer.outcome == types_pb2.OUTCOME_APPLIED


@pytest.mark.parametrize(
    "bad",
    [
        {"address": "nowhere"},
        {"in_flight_max": 0},
        {"drain_grace_s": -1},
        {"deadline_max_s": 0},
        {"request_bytes_max": 1},
        {"unknown": 1},
    ],
)
def test_settings_have_bounds(bad: dict[str, object]) -> None:
    """A setting out of bounds stops the start."""
    with pytest.raises(ValidationError):
        ServerSettings(**bad)
