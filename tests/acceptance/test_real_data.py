"""A leaderboard that the world already knows: the career home runs of baseball's postseasons.

The data lies beside the project and not in it; where it is missing, these tests are skipped.
"""

from __future__ import annotations

import bisect
import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import pytest

from core.types import Operator as CoreOperator
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings.v1 import types_pb2 as types_pb
from standings_client import AsyncClient, Board, Operator, Submission
from tests.fakes.making import board_spec
from tests.fakes.oracle import Oracle, OracleEntry
from tests.fixtures.server import RunningServer

_DATA = Path(__file__).parents[3] / "shared" / "data"
_KNOWN_TOP = [
    (2638, 29),
    (2670, 22),
    (2710, 20),
    (3060, 19),
    (4167, 19),
    (1081, 18),
    (1587, 18),
    (4079, 18),
    (2656, 17),
    (3130, 17),
    (3673, 17),
    (4096, 17),
    (3229, 16),
    (342, 15),
]
_NOBODY = 999_999
_FRIENDS = [*(user for user, _ in _KNOWN_TOP), _NOBODY, 1, 2, 3, 500, 501, 4_711, 9_000]
_STEP = 1_000
_PAGE_SIZE = 100

Mode: TypeAlias = "types_pb.RankMode.ValueType"
Told: TypeAlias = tuple[int, int, int]
"""What an answer says of an entry: user_id, rank, score."""

pytestmark = [
    pytest.mark.skipif(not _DATA.is_dir(), reason="the data set is not beside the project"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def home_runs() -> Sequence[tuple[int, int]]:
    """(user_id, home runs) of every line, in the order played."""
    with (_DATA / "people.csv").open(newline="") as file:
        users = {row["playerID"]: int(row["user_id"]) for row in csv.DictReader(file)}
    with (_DATA / "batting_post.csv").open(newline="") as file:
        return [(users[row["playerID"]], int(row["HR"] or 0)) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def true_board(home_runs: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """(user_id, home runs) best first, from the file alone."""
    oracle = Oracle(board_spec(operator=CoreOperator.INCREMENT))
    for user_id, count in home_runs:
        oracle.submit(user_id, count)
    board = [(entry.user_id, entry.score) for entry in oracle.board()]
    assert board[: len(_KNOWN_TOP)] == _KNOWN_TOP
    return board


async def _walk(client: AsyncClient) -> Sequence[tuple[int, int]]:
    entries = [entry async for entry in client.iter_entries("postseason", page_size=1_000)]
    assert [entry.rank for entry in entries] == list(range(1, len(entries) + 1))
    return [(entry.user_id, entry.score) for entry in entries]


async def test_one_call_at_a_time(
    standings: RunningServer,
    home_runs: Sequence[tuple[int, int]],
    true_board: Sequence[tuple[int, int]],
) -> None:
    """15,460 calls, each after the one before was answered."""
    client = standings.client
    await client.boards.create(Board(board_id="postseason", operator=Operator.INCREMENT))

    for user_id, count in home_runs:
        await client.submit_score("postseason", user_id, count)

    assert await _walk(client) == true_board


@pytest.mark.parametrize("size", [1_000, 37])
async def test_by_batches(
    standings: RunningServer,
    home_runs: Sequence[tuple[int, int]],
    true_board: Sequence[tuple[int, int]],
    size: int,
) -> None:
    """Batches in file order, each after the one before was answered."""
    client = standings.client
    await client.boards.create(Board(board_id="postseason", operator=Operator.INCREMENT))

    for start in range(0, len(home_runs), size):
        await client.batch_submit_scores(
            [Submission("postseason", user, n) for user, n in home_runs[start : start + size]]
        )

    assert await _walk(client) == true_board


async def test_by_one_stream(
    standings: RunningServer,
    home_runs: Sequence[tuple[int, int]],
    true_board: Sequence[tuple[int, int]],
) -> None:
    """One stream, as fast as it takes them: thousands are on the way at once."""
    client = standings.client
    await client.boards.create(Board(board_id="postseason", operator=Operator.INCREMENT))

    async with client.stream_submitter() as submitter:
        for user_id, count in home_runs:
            await submitter.submit("postseason", user_id, count)

    assert await _walk(client) == true_board


async def test_after_every_thousandth_row(
    standings: RunningServer, home_runs: Sequence[tuple[int, int]]
) -> None:
    """All pages both ways, neighbours, friends, a percentile and an estimate, by both rank modes,
    are those worked out from the rows so far.
    """
    client = standings.client
    await client.boards.create(Board(board_id="postseason", operator=Operator.INCREMENT))
    oracle = Oracle(board_spec(operator=CoreOperator.INCREMENT))
    steps = [*range(0, len(home_runs), _STEP), len(home_runs)]

    async with standings.channel() as channel:
        stub = pb_grpc.RankingServiceStub(channel)
        for first, last in pairwise(steps):
            rows = home_runs[first:last]
            for user, count in rows:
                oracle.submit(user, count)
            await client.batch_submit_scores(
                [Submission("postseason", user, count) for user, count in rows]
            )
            entries = oracle.board()
            for mode in (types_pb.RANK_MODE_ORDINAL, types_pb.RANK_MODE_COMPETITION):
                await _Comparison(stub, mode, entries, _told_by(entries, mode)).run()


def _told_by(entries: Sequence[OracleEntry], mode: Mode) -> list[Told]:
    told: list[Told] = []
    for place, entry in enumerate(entries, start=1):
        shared = mode == types_pb.RANK_MODE_COMPETITION and told and told[-1][2] == entry.score
        told.append((entry.user_id, told[-1][1] if shared else place, entry.score))
    return told


def _told(entries: Iterable[types_pb.Entry]) -> list[Told]:
    assert all(entry.rank_low == entry.rank == entry.rank_high for entry in entries)
    return [(entry.user_id, entry.rank, entry.score) for entry in entries]


@dataclass(frozen=True)
class _Comparison:
    """The server held against a sorted list, by one rank mode."""

    stub: pb_grpc.RankingServiceAsyncStub
    mode: Mode
    entries: Sequence[OracleEntry]
    board: Sequence[Told]

    @property
    def options(self) -> types_pb.ReadOptions:
        return types_pb.ReadOptions(rank_mode=self.mode)

    async def run(self) -> None:
        """Asks everything."""
        last = await self.walk_forward()
        await self.walk_backward(last)
        await self.neighbours()
        await self.friends()
        for score in (0, 1, 7, 50):
            await self.result(score)
        for percent in (0.1, 1.0, 33.3, 100.0):
            await self.percentile(percent)

    async def walk_forward(self) -> pb.ListEntriesResponse:
        """The whole board in pages, by next tokens. Returns the last page."""
        walked: list[Told] = []
        page = await self._page("")
        assert page.previous_page_token == ""
        while True:
            walked += _told(page.entries)
            assert page.meta.entry_count == len(self.board)
            if not page.next_page_token:
                break
            assert len(page.entries) == _PAGE_SIZE
            page = await self._page(page.next_page_token)
        assert walked == self.board
        return page

    async def walk_backward(self, page: pb.ListEntriesResponse) -> None:
        """From the last page to the top, by previous tokens."""
        walked = _told(page.entries)
        while page.previous_page_token:
            page = await self._page(page.previous_page_token)
            assert len(page.entries) == _PAGE_SIZE or not page.previous_page_token
            walked = _told(page.entries) + walked
        assert walked == self.board

    async def neighbours(self) -> None:
        """Around the first, the last and some others; full windows at both ends."""
        count = len(self.board)
        for place in {0, 1, 3, count // 3, count // 2, count - 4, count - 1}:
            answer = await self.stub.ListEntriesAround(
                pb.ListEntriesAroundRequest(
                    board_id="postseason",
                    user_id=self.board[place][0],
                    above=5,
                    below=4,
                    options=self.options,
                )
            )

            first = max(0, min(place - 5, count - 10))
            assert _told(answer.entries) == self.board[first : first + 10]

    async def friends(self) -> None:
        """A fixed list of users, some of whom have not played yet, and one who never will."""
        answer = await self.stub.BatchGetEntries(
            pb.BatchGetEntriesRequest(
                board_id="postseason", user_ids=_FRIENDS, options=self.options
            )
        )

        found = [entry for entry in self.entries if entry.user_id in _FRIENDS]
        ranks = {user: rank for user, rank, _ in self.board}
        list_ranks = [rank for _, rank, _ in _told_by(found, self.mode)]
        assert [(entry.user_id, entry.rank, entry.list_rank) for entry in answer.entries] == [
            (entry.user_id, ranks[entry.user_id], list_rank)
            for entry, list_rank in zip(found, list_ranks, strict=True)
        ]
        assert list(answer.missing_user_ids) == [user for user in _FRIENDS if user not in ranks]

    async def result(self, score: int) -> None:
        """What a score would be worth, and how many are at least as good."""
        estimate = await self.stub.EstimateRank(
            pb.EstimateRankRequest(board_id="postseason", score=score, options=self.options)
        )
        answer = await self.stub.GetPercentile(
            pb.GetPercentileRequest(board_id="postseason", score_point=pb.ScorePoint(score=score))
        )

        worst_first = [score for _, _, score in reversed(self.board)]
        as_good = len(worst_first) - bisect.bisect_left(worst_first, score)
        better = len(worst_first) - bisect.bisect_right(worst_first, score)
        shares = self.mode == types_pb.RANK_MODE_COMPETITION
        before = better if shares else as_good
        assert estimate.rank == before + 1
        assert estimate.HasField("next") == (before > 0)
        if before:
            holder_score = self.board[before - 1][2]
            needed = holder_score if shares else holder_score + 1
            assert estimate.next.rank == self.board[before - 1][1]
            assert (estimate.next.score, estimate.next.score_needed) == (holder_score, needed)
        assert (answer.rank, answer.percent) == (as_good, 100 * as_good / len(worst_first))

    async def percentile(self, percent: float) -> None:
        """Who stands at a percent."""
        answer = await self.stub.GetPercentile(
            pb.GetPercentileRequest(board_id="postseason", percent=percent)
        )

        rank = math.ceil(round(percent * 10) * len(self.board) / 1_000)
        assert (answer.rank, answer.score_point.score) == (rank, self.board[rank - 1][2])

    async def _page(self, token: str) -> pb.ListEntriesResponse:
        return await self.stub.ListEntries(
            pb.ListEntriesRequest(
                board_id="postseason",
                page_size=_PAGE_SIZE,
                page_token=token,
                options=self.options,
            )
        )
