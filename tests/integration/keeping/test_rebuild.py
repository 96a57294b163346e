"""What the index lost is noticed and built again unasked; nothing half-built is told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from core.errors import IndexUnbuilt, StandingsError
from core.ports import Freshness
from core.types import Board
from jobs.build_missing import BuildMissing
from jobs.runner import JobRunner
from jobs.schedule import BUILD_S, HEAL_S, Job
from sharding.keys import season_keys
from tests.fakes.making import board_spec, submission
from tests.fixtures.keeping import Kept
from tests.fixtures.redis import empty
from tests.integration.sharding.nodes import owner, run

pytestmark = [pytest.mark.both_engines, pytest.mark.timeout(120)]

SHARD = 5
NOTICED_S = 2.0
BUILT_S = 2.0
"""Beside the notice, for a small board."""
_FILL = """
insert into entries (shard, season_no, user_id, score, subscore, arrival, revision,
                     submission_count, achieve_time, update_time, state, outcome, batch_place)
select u % 16, s.season_no, u, u, 0, u, 1, 1, now(), now(), 0, 1, 1
from generate_series(1::bigint, 50000) u cross join seasons s
"""


@pytest.mark.parametrize("loss", ["everything", "a season of a shard"])
async def test_what_was_lost_is_noticed_and_built(
    kept: Kept, loss: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A flushed Redis, and a key that was taken out of a whole one."""
    board = await _board(kept)
    await kept.apply(await kept.record(board, [submission(user, user) for user in range(1, 101)]))
    async with _jobs(kept):
        await _until(kept, board)
        caplog.set_level(logging.INFO, logger="jobs.build_missing")
        caplog.clear()
        if loss == "everything":
            await empty(kept.cluster)
        else:
            node = await owner(kept.cluster, SHARD)
            await run(node, "DEL", season_keys(SHARD, board.season.number)[1])
        lost_s = time.time()
        with pytest.raises(IndexUnbuilt):
            await kept.shown(board)

        await _until(kept, board)
        assert time.time() - lost_s < NOTICED_S + BUILT_S
        noticed_s = [one.created for one in caplog.records if one.message == "building the index"]
        assert noticed_s[0] - lost_s < NOTICED_S


async def test_nothing_half_built_is_told(kept: Kept) -> None:
    """Reads all through the build of 50,000 entries fail, or count all of them."""
    board = await _board(kept)
    await kept.execute(_FILL)
    await kept.build.season(board.season.number)
    await empty(kept.cluster)
    refused = 0

    async def read() -> None:
        nonlocal refused
        while not built.done():
            try:
                page = await kept.index.page_at(
                    board.season.number, offset=49_990, limit=20, fresh=Freshness()
                )
            except StandingsError:
                refused += 1
            else:
                assert (len(page.entries), page.view.entry_count) == (10, 50_000)

    built = asyncio.ensure_future(kept.build_missing())
    await asyncio.gather(built, *(read() for _ in range(4)))

    assert refused > 0
    page = await kept.index.page_at(board.season.number, offset=0, limit=1, fresh=Freshness())
    assert page.view.entry_count == 50_000


async def _board(kept: Kept) -> Board:
    """A built board that is old enough for the builder to look after it."""
    board = await kept.boards.create(board_spec())
    await kept.execute("update seasons set starts_at = now() - interval '1 minute'")
    await kept.build.season(board.season.number)
    return board


async def _until(kept: Kept, board: Board) -> None:
    """Returns when the index is equal to the ledger."""
    truth = await kept.truth(board)
    async with asyncio.timeout(30):
        while True:
            try:
                if await kept.shown(board) == truth:
                    return
            except StandingsError:
                pass
            await asyncio.sleep(0.02)


@dataclass
class _Leader:
    """Whoever asks leads."""

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs it."""
        await work()


@asynccontextmanager
async def _jobs(kept: Kept) -> AsyncIterator[None]:
    """The healer and the builder in their own rhythm."""
    build = BuildMissing(kept.history, kept.keeping, kept.build)
    jobs = (Job("heal", HEAL_S, kept.heal), Job("build", BUILD_S, build))
    task = asyncio.create_task(JobRunner(_Leader(), jobs).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
