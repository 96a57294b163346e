"""A leaderboard that the world already knows: the career home runs of baseball's postseasons.

The data lies beside the project and not in it; where it is missing, these tests are skipped.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from core.types import Operator as CoreOperator
from standings_client import AsyncClient, Board, Operator, Submission
from tests.fakes.making import board_spec
from tests.fakes.oracle import Oracle
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
