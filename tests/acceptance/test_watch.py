"""A thousand watchers of one board over the wire, and one that does not read."""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from core.watch_states import WatchMessage, WatchState
from sharding.index import RedisIndex
from standings.v1 import ranking_service_pb2 as pb
from standings.v1.ranking_service_pb2_grpc import RankingServiceStub
from standings_client import AsyncClient, Board, Submission, SubmitResult
from tests.fixtures.redis import empty
from tests.fixtures.server import RunningServer, Serve, settings_for

WATCHERS = 1_000
CHANNELS = 8
SUBMISSIONS = 10_000
USERS = 2_000
SHOWN = 10
INTERVAL_MS = 1_500
SLOW_INTERVAL_MS = 100
"""The slow one is the one in a hurry: the board is read for it."""
SLOW_SHOWN = 1_000
JOIN_S = 0.1
"""While watchers join, the board is read no more often than this."""
SLOW_MESSAGES_MAX = 10
"""What fits between a caller who does not read and the server, 64 KiB a stream, and the last
state; every read has something new to tell."""
LATENCY_MEDIAN_MAX_S = 0.1
BATCH = 100

Row = tuple[int, int, int]
"""User, rank, score."""


@dataclass
class Follower:
    """One watch, and what its caller knows by it."""

    call: Any
    rows: dict[int, Row] = field(default_factory=dict)
    message_count: int = 0

    async def read(self) -> None:
        """Takes in the next message."""
        message = await self.call.read()
        assert message is not grpc.aio.EOF, await self.call.details()
        self.message_count += 1
        if message.event == pb.WATCH_EVENT_SNAPSHOT:
            self.rows.clear()
        for user_id in message.removed_user_ids:
            del self.rows[user_id]
        for entry in message.entries:
            self.rows[entry.user_id] = (entry.user_id, entry.rank, entry.score)

    async def read_until(self, expected: Sequence[Row]) -> None:
        """Reads until it knows this, and fails if the watch never tells it."""
        while sorted(self.rows.values(), key=lambda row: row[1]) != expected:
            await self.read()


@pytest.fixture
async def channels(standings: RunningServer) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Connections of their own; the server sends no more than 64 KiB ahead on a stream."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(standings.address, options=options)
            )
            for _ in range(CHANNELS)
        ]


def follow(channel: grpc.aio.Channel, *, count: int, interval_ms: int) -> Follower:
    """A watch of the top of the board."""
    request = pb.WatchEntriesRequest(board_id="arena", top_count=count)
    request.min_interval.FromMilliseconds(interval_ms)
    return Follower(RankingServiceStub(channel).WatchEntries(request))


def best(scores: dict[int, int], count: int) -> list[Row]:
    """The top of the board as anyone would count it."""
    order = sorted(scores, key=lambda user: -scores[user])[:count]
    return [(user, rank, scores[user]) for rank, user in enumerate(order, start=1)]


@pytest.mark.grpcio_only("it counts the reads and the objects of the test's own process")
async def test_a_thousand_watchers_of_one_board(
    standings: RunningServer,
    channels: list[grpc.aio.Channel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All see the last state, reads do not grow with watchers, nothing piles up, calls go on."""
    windows = _count_windows(monkeypatch)
    await standings.client.boards.create(Board(board_id="arena"))
    began_s = time.monotonic()
    slow = follow(channels[0], count=SLOW_SHOWN, interval_ms=SLOW_INTERVAL_MS)
    followers = [
        follow(channels[number % CHANNELS], count=SHOWN, interval_ms=INTERVAL_MS)
        for number in range(WATCHERS)
    ]
    async with asyncio.timeout(120):
        await asyncio.gather(*(follower.read() for follower in followers))
        joined_count, joined_s = len(windows), time.monotonic()
        scores = final_scores()
        expected = best(dict(scores), SHOWN)
        reading = [asyncio.create_task(each.read_until(expected)) for each in followers]
        alive, latencies_s = await _submit_and_ask(standings, scores)
        await asyncio.gather(*reading)
        read_count, ended_s = len(windows), time.monotonic()
        await slow.read_until(best(dict(scores), SLOW_SHOWN))

    assert joined_count <= (joined_s - began_s) / JOIN_S + 2
    assert read_count - joined_count <= (ended_s - joined_s) / (SLOW_INTERVAL_MS / 1000) + 2
    # 32 known states of each of two targets, and those that somebody was told last.
    assert alive[WatchState] <= 2 * 32 + 8
    assert alive[WatchMessage] <= 32 + 8
    assert sum(follower.message_count for follower in followers) >= 3 * WATCHERS
    assert slow.message_count <= SLOW_MESSAGES_MAX
    assert read_count - joined_count > 2 * SLOW_MESSAGES_MAX
    assert len(latencies_s) >= 10
    assert statistics.median(latencies_s) < LATENCY_MEDIAN_MAX_S


@pytest.mark.both_transports
async def test_watches_end_with_the_server(
    database: str, redis_cluster: EmbeddedRedisCluster, serve: Serve
) -> None:
    """A server that goes away says so, and does not wait for watchers to leave."""
    await empty(redis_cluster)
    settings = settings_for(database, redis_cluster)
    async with AsyncExitStack() as stack:
        async with serve(settings) as addresses:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(addresses.public))
            async with AsyncClient(addresses.public) as client:
                await client.boards.create(Board(board_id="arena"))
            follower = follow(channel, count=SHOWN, interval_ms=60_000)
            await follower.read()
            began_s = time.monotonic()
        took_s = time.monotonic() - began_s
        code, text = await follower.call.code(), await follower.call.details()

    assert (code, text) == (grpc.StatusCode.UNAVAILABLE, "this server is going away")
    assert took_s < settings.server.drain_grace_s


def final_scores() -> list[tuple[int, int]]:
    """Submissions as (user, score). Scores only rise, so a user's last one counts; none is twice
    there, so that ranks do not hang on who came first.
    """
    rng = random.Random(1)
    scores = sorted(rng.sample(range(1, 10_000_000), SUBMISSIONS))
    return [(rng.randint(1, USERS), score) for score in scores]


async def _submit_and_ask(
    standings: RunningServer, scores: list[tuple[int, int]]
) -> tuple[Counter[type], list[float]]:
    """Submits in batches, each followed by a unary read; returns how much is alive at the end,
    and how long the reads took.
    """
    latencies_s = []
    for at in range(0, len(scores), BATCH):
        batch = [Submission("arena", user, score) for user, score in scores[at : at + BATCH]]
        done = await standings.client.batch_submit_scores(batch)
        assert all(isinstance(result, SubmitResult) for result in done.results)
        asked_s = time.monotonic()
        await standings.client.get_entry("arena", batch[-1].user_id)
        latencies_s.append(time.monotonic() - asked_s)
    gc.collect()
    alive = Counter(type(each) for each in gc.get_objects())
    return alive, latencies_s


def _count_windows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    windows: list[int] = []
    window = RedisIndex.window

    async def counted(index: RedisIndex, *args: Any, **kwargs: Any) -> Any:
        windows.append(kwargs["below"])
        return await window(index, *args, **kwargs)

    monkeypatch.setattr(RedisIndex, "window", counted)
    return windows
