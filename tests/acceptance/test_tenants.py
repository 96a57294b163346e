"""Games beside each other on one server: none sees, touches, counts or pages into another's boards,
or learns whether there are any.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.server_settings import Transport
from server.identity.policy import POLICY, Boards
from standings.v1 import board_service_pb2 as boards
from standings.v1 import moderation_service_pb2 as moderation
from standings.v1 import ranking_service_pb2 as ranking
from standings.v1 import types_pb2 as types
from standings.v1.board_service_pb2_grpc import BoardServiceStub
from standings.v1.moderation_service_pb2_grpc import ModerationServiceStub
from standings.v1.ranking_service_pb2_grpc import RankingServiceStub
from tests.fakes.making import submission_id
from tests.fixtures.secured import Secured, secured

OK = grpc.StatusCode.OK
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT


class Game:
    """A server of one game, or of every game."""

    def __init__(self, running: Secured, path: str) -> None:
        channel = running.channel(running.server.address, running.caller(f"game-server/{path}"))
        self.ranking = RankingServiceStub(channel)
        self.boards = BoardServiceStub(channel)
        self.moderation = ModerationServiceStub(channel)

    async def told(self, method: Any, request: Message) -> tuple[Any, ...]:
        """All that a caller is told of a failure; of an answer that it is one."""
        try:
            await method(request, timeout=20)
        except grpc.aio.AioRpcError as error:
            return _all(error)
        return (OK,)


@pytest.fixture
async def running(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path
) -> AsyncIterator[Secured]:
    """A server with two boards of each of two games, one of them of players, and 30 entries on
    each.
    """
    async with secured(
        tmp_path, database, redis_cluster, Transport.GRPCIO, certificates=True, tokens=True
    ) as running:
        await running.server.line("worker ready")
        everybody = Game(running, "all")
        for game in ("arena", "other"):
            for name, client_writes in (("main", True), ("closed", False)):
                board_id = f"{game}.{name}"
                board = types.Board(board_id=board_id, client_writes=client_writes)
                await everybody.boards.CreateBoard(boards.CreateBoardRequest(board=board))
                await everybody.ranking.BatchSubmitScores(_batch(board_id, range(1, 31)))
        yield running


_OTHERS = ("arena.main", "arena.absent", "arena", "arenas.main", "plain")
"""Names that are not those of the game `other`: one of them is a board."""


def _requests(board_id: str) -> dict[str, Message]:
    """A good request of every method that names boards and has no items, but for that it makes
    none.
    """
    options = types.ReadOptions(rank_mode=types.RANK_MODE_ORDINAL)
    named = {"board_id": board_id}
    ranking_requests = {
        "SubmitScore": ranking.SubmitScoreRequest(**named, user_id=7, score=1),
        "GetEntry": ranking.GetEntryRequest(**named, user_id=7, options=options),
        "BatchGetEntries": ranking.BatchGetEntriesRequest(**named, user_ids=[7]),
        "ListEntries": ranking.ListEntriesRequest(**named),
        "ListEntriesAround": ranking.ListEntriesAroundRequest(**named, user_id=7),
        "EstimateRank": ranking.EstimateRankRequest(**named, score=1),
        "GetPercentile": ranking.GetPercentileRequest(**named, percent=1),
        "DeleteEntry": ranking.DeleteEntryRequest(**named, user_id=7),
    }
    board = types.Board(board_id=board_id, title="mine")
    board_requests = {
        "GetBoard": boards.GetBoardRequest(**named),
        "UpdateBoard": boards.UpdateBoardRequest(board=board),
        "DeleteBoard": boards.DeleteBoardRequest(**named),
    }
    moderation_requests = {
        "HideUser": moderation.HideUserRequest(**named, user_id=7),
        "RestoreUser": moderation.RestoreUserRequest(**named, user_id=7),
    }
    return {
        **{f"ranking.{name}": one for name, one in ranking_requests.items()},
        **{f"boards.{name}": one for name, one in board_requests.items()},
        **{f"moderation.{name}": one for name, one in moderation_requests.items()},
    }


def test_every_method_that_names_boards_is_tried_here() -> None:
    """Nothing is forgotten: these, and those with items, a stream or a board to make."""
    tried = {name.partition(".")[2] for name in _requests("any")}
    others = {"BatchSubmitScores", "StreamSubmitScores", "WatchEntries", "CreateBoard"}
    named = {
        path.rpartition("/")[2]
        for path, rule in POLICY.items()
        if rule.boards in {Boards.NAMED, Boards.CREATED} and "AdminService" not in path
    }

    assert tried | others == named


async def test_a_board_of_another_game_is_one_that_is_not_there(running: Secured) -> None:
    """By every method: the same words whether there is such a board or not, and nothing happens."""
    other, everybody = Game(running, "other/eu1"), Game(running, "all")
    for name in _requests("any"):
        service, _, method = name.partition(".")
        stub = getattr(getattr(other, service), method)
        told = {await other.told(stub, _requests(board_id)[name]) for board_id in _OTHERS}
        # Word for word what is told of a board of one's own that there is not.
        told.add(await other.told(stub, _requests("other.absent")[name]))
        assert (name, len(told), {one[0] for one in told}) == (name, 1, {NOT_FOUND})
    board = (await everybody.boards.GetBoard(boards.GetBoardRequest(board_id="arena.main"))).board
    listed = await everybody.ranking.ListEntries(ranking.ListEntriesRequest(board_id="arena.main"))

    assert (board.title, listed.meta.entry_count, listed.entries[0].score) == ("", 30, 30)


async def test_items_of_another_game_fail_by_themselves(running: Secured) -> None:
    """In a batch and in a stream: its own items count, others are told as those of no board."""
    other = Game(running, "other/eu1")
    items = [
        ranking.SubmitScoreRequest(board_id=board_id, user_id=7, score=1_000)
        for board_id in ("other.main", "arena.main", "other.absent", "arena.absent", "other.closed")
    ]
    answer = await other.ranking.BatchSubmitScores(
        ranking.BatchSubmitScoresRequest(submissions=items)
    )
    stream = other.ranking.StreamSubmitScores(
        iter([ranking.StreamSubmitScoresRequest(sequence=1, submissions=items)])
    )
    for results in (answer.results, (await stream.read()).results):
        assert [one.WhichOneof("result") for one in results] == [
            *("response", "error", "error", "error", "response")
        ]
        assert len({one.error.SerializeToString() for one in results if one.HasField("error")}) == 1
        assert results[1].error.code == NOT_FOUND.value[0]


async def test_a_board_of_another_game_is_not_followed(running: Secured) -> None:
    """A watch ends before it tells anything."""
    other = Game(running, "other/eu1")
    told = set()
    for board_id in (*_OTHERS, "other.absent"):
        watch = other.ranking.WatchEntries(
            ranking.WatchEntriesRequest(board_id=board_id, top_count=1), timeout=20
        )
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await watch.read()
        told.add(_all(refusal.value))

    assert len(told) == 1


async def test_a_board_is_made_in_ones_own_namespace(running: Secured) -> None:
    """Also where the name is taken, by somebody else, nobody learns that."""
    other = Game(running, "other/eu1")
    told = {
        await other.told(
            other.boards.CreateBoard,
            boards.CreateBoardRequest(board=types.Board(board_id=board_id)),
        )
        for board_id in _OTHERS
    }
    mine = boards.CreateBoardRequest(board=types.Board(board_id="other.new"))

    assert [one[0] for one in told] == [PERMISSION_DENIED]
    assert await other.told(other.boards.CreateBoard, mine) == (OK,)


async def test_boards_are_listed_and_counted_in_ones_own_namespace(running: Secured) -> None:
    """Page by page, without gaps where others have boards in between; nor goes a token around."""
    everybody = Game(running, "all")
    for board_id in ("a.first", "other-x.main", "otherx.main", "other_x.main", "z.last"):
        await everybody.boards.CreateBoard(
            boards.CreateBoardRequest(board=types.Board(board_id=board_id))
        )
    arena, other = Game(running, "arena/eu1"), Game(running, "other/eu1")
    first = await other.boards.ListBoards(boards.ListBoardsRequest(page_size=1))
    rest = await other.boards.ListBoards(
        boards.ListBoardsRequest(page_size=1, page_token=first.next_page_token)
    )
    found = [board.board_id for board in (*first.boards, *rest.boards)]
    all_boards = await everybody.boards.ListBoards(boards.ListBoardsRequest(page_size=2))
    garbage = await other.told(other.boards.ListBoards, _page("garbage"))

    assert (found, rest.next_page_token) == (["other.closed", "other.main"], "")
    for token in (all_boards.next_page_token, (await _first(arena)).next_page_token):
        assert await other.told(other.boards.ListBoards, _page(token)) == garbage
    assert await arena.told(arena.boards.ListBoards, _page(first.next_page_token)) == garbage


async def test_tokens_of_another_game_open_nothing(running: Secured) -> None:
    """Page, consistency and resume tokens of its boards: as if they were made up."""
    arena, other = Game(running, "arena/eu1"), Game(running, "other/eu1")
    page = await arena.ranking.ListEntries(
        ranking.ListEntriesRequest(board_id="arena.main", page_size=5)
    )
    written = await arena.ranking.SubmitScore(
        ranking.SubmitScoreRequest(board_id="arena.main", user_id=7, score=99)
    )
    watch = arena.ranking.WatchEntries(
        ranking.WatchEntriesRequest(board_id="arena.main", top_count=3)
    )
    resume_token = (await watch.read()).resume_token
    watch.cancel()

    for real in (page.next_page_token, page.previous_page_token or page.next_page_token):
        told = {await _listed(other, page_token=token) for token in (real, "garbage")}
        assert [one[0] for one in told] == [INVALID_ARGUMENT]
    told = {
        await _listed(other, options=types.ReadOptions(consistency_token=token))
        for token in (written.consistency_token, "garbage")
    }
    assert [one[0] for one in told] == [INVALID_ARGUMENT]
    told = {await _resumed(other, token) for token in (resume_token, "garbage")}
    assert [one[0] for one in told] == [INVALID_ARGUMENT]


async def test_a_submission_id_of_another_game_tells_nothing_of_it(running: Secured) -> None:
    """An id that was used there is refused without a word about what it was used for."""
    arena, other = Game(running, "arena/eu1"), Game(running, "other/eu1")
    id_ = submission_id()
    await arena.ranking.SubmitScore(
        ranking.SubmitScoreRequest(board_id="arena.main", user_id=7, score=4_242, submission_id=id_)
    )
    told = await other.told(
        other.ranking.SubmitScore,
        ranking.SubmitScoreRequest(
            board_id="other.main", user_id=7, score=4_242, submission_id=id_
        ),
    )

    assert told[0] is grpc.StatusCode.ALREADY_EXISTS
    assert not any("arena" in str(part) or "4242" in str(part) for part in told)


async def test_what_reaches_every_game_is_not_for_one(running: Secured) -> None:
    """To hide a user everywhere takes somebody of every game; to erase one, somebody else."""
    other = Game(running, "other/eu1")
    hide = moderation.HideUserRequest(user_id=7)
    delete = moderation.DeleteUserRequest(user_id=7)

    assert (await other.told(other.moderation.HideUser, hide))[0] is INVALID_ARGUMENT
    assert (await other.told(other.moderation.DeleteUser, delete))[0] is PERMISSION_DENIED


async def test_a_player_submits_for_itself_where_the_board_allows_it(running: Secured) -> None:
    """Its own score on a board for players, by the board's operator; nothing else, also in a batch
    and in a stream.
    """
    channel = running.channel(running.by_token)
    stub = RankingServiceStub(channel)
    metadata = (("authorization", f"Bearer {running.issuer.token('client', sub='7')}"),)
    items = [
        ranking.SubmitScoreRequest(board_id="arena.main", user_id=7, score=77),
        ranking.SubmitScoreRequest(board_id="arena.main", user_id=8, score=77),
        ranking.SubmitScoreRequest(board_id="arena.closed", user_id=7, score=77),
        ranking.SubmitScoreRequest(board_id="other.main", user_id=7, score=77),
        ranking.SubmitScoreRequest(
            board_id="arena.main", user_id=7, score=1, operator=types.OPERATOR_SET
        ),
    ]
    expected = [OK, PERMISSION_DENIED, PERMISSION_DENIED, NOT_FOUND, PERMISSION_DENIED]
    alone = []
    for item in items:
        try:
            await stub.SubmitScore(item, metadata=metadata, timeout=20)
            alone.append(OK)
        except grpc.aio.AioRpcError as error:
            alone.append(error.code())
    batch = await stub.BatchSubmitScores(
        ranking.BatchSubmitScoresRequest(submissions=items), metadata=metadata, timeout=20
    )
    stream = stub.StreamSubmitScores(
        iter([ranking.StreamSubmitScoresRequest(submissions=items)]), metadata=metadata, timeout=20
    )

    assert alone == expected
    for results in (batch.results, (await stream.read()).results):
        assert [one.error.code for one in results] == [code.value[0] for code in expected]


async def test_a_player_reads_the_board_and_its_own_entry(running: Secured) -> None:
    """Pages are for everybody of the game; an entry that is asked for is one's own."""
    stub = RankingServiceStub(running.channel(running.by_token))
    metadata = (("authorization", f"Bearer {running.issuer.token('client', sub='7')}"),)
    page = await stub.ListEntries(
        ranking.ListEntriesRequest(board_id="arena.main", page_size=3), metadata=metadata
    )
    own = await stub.GetEntry(
        ranking.GetEntryRequest(board_id="arena.main", user_id=7), metadata=metadata
    )
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.GetEntry(
            ranking.GetEntryRequest(board_id="arena.main", user_id=8), metadata=metadata
        )

    assert [entry.user_id for entry in page.entries] == [30, 29, 28]
    assert own.entry.user_id == 7
    assert refusal.value.code() is PERMISSION_DENIED


def _batch(board_id: str, users: range) -> ranking.BatchSubmitScoresRequest:
    return ranking.BatchSubmitScoresRequest(
        submissions=[
            ranking.SubmitScoreRequest(board_id=board_id, user_id=user, score=user)
            for user in users
        ]
    )


def _page(token: str) -> boards.ListBoardsRequest:
    return boards.ListBoardsRequest(page_size=2, page_token=token)


async def _first(game: Game) -> boards.ListBoardsResponse:
    answer: boards.ListBoardsResponse = await game.boards.ListBoards(
        boards.ListBoardsRequest(page_size=1)
    )
    return answer


async def _listed(game: Game, **fields: Any) -> tuple[Any, ...]:
    return await game.told(
        game.ranking.ListEntries,
        ranking.ListEntriesRequest(board_id="other.main", page_size=5, **fields),
    )


async def _resumed(game: Game, token: str) -> tuple[Any, ...]:
    watch = game.ranking.WatchEntries(
        ranking.WatchEntriesRequest(board_id="other.main", top_count=3, resume_token=token),
        timeout=20,
    )
    try:
        await watch.read()
    except grpc.aio.AioRpcError as error:
        return _all(error)
    watch.cancel()
    return (OK,)


def _all(error: grpc.aio.AioRpcError) -> tuple[Any, ...]:
    trailers = tuple(
        (key, value) for key, value in error.trailing_metadata() or () if key != "date"
    )
    return (error.code(), error.details(), trailers)
