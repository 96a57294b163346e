"""A board of a million entries, built from PostgreSQL: every read is exact, and costs no more round
trips to the index than it promises.
"""

from __future__ import annotations

import asyncio
import bisect
import hashlib
import logging
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import psycopg
import pytest

from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from cli.serving import serving
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings.v1 import types_pb2 as types_pb
from standings_client import AsyncClient, Board, StandingsError
from storage.migrations import migrate
from tests.fixtures.counting import RoundTrips, counted
from tests.fixtures.redis import empty
from tests.fixtures.server import RunningServer, settings_for

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.grpcio_only("it counts round trips in the test's own process"),
]

ENTRIES = 1_000_000
PATTERNED = 100_000
ORDINAL, COMPETITION = types_pb.RANK_MODE_ORDINAL, types_pb.RANK_MODE_COMPETITION
MODES = pytest.mark.parametrize("mode", [ORDINAL, COMPETITION], ids=["ordinal", "competition"])
_FILL = """
insert into entries (shard, season_no, user_id, score, subscore, arrival, revision,
                     submission_count, achieve_time, update_time, state, outcome, batch_place)
select u %% 16, s.season_no, u, n %% 50000, n / 50000 %% 3, 2000000 - u, 1, 1,
       now(), now(), 0, 1, 1
from boards b
join seasons s using (board_no)
cross join generate_series(1::bigint, %(count)s) u
cross join lateral (
  select case b.board_id when 'arena' then ('x' || left(md5(u::text), 8))::bit(32)::bigint
                         else u * 7919 end
) as x (n)
where b.board_id = %(board_id)s
"""
_SCORES = 50_000
_SUBSCORES = 3
_ARRIVALS = 2_000_000
_log = logging.getLogger(__name__)


def _hashed(user: int) -> int:
    """The number behind a user's result on the board "arena", as the statement above makes it."""
    return int.from_bytes(hashlib.md5(str(user).encode()).digest()[:4], "big")


def _patterned(user: int) -> int:
    """Likewise on the board "pattern". Equal scores are all of one shard: 50,000 is a multiple of
    their number.
    """
    return user * 7919


def _result(score: int, subscore: int) -> int:
    """A result as one number, smaller is better."""
    return (_SCORES - 1 - score) * _SUBSCORES + _SUBSCORES - 1 - subscore


Mode: TypeAlias = "types_pb.RankMode.ValueType"
Told: TypeAlias = tuple[int, int, int, int, int, int]
"""What an answer says of an entry: user_id, rank, rank_low, rank_high, score, subscore."""


def _told(entries: Iterable[types_pb.Entry]) -> list[Told]:
    return [(e.user_id, e.rank, e.rank_low, e.rank_high, e.score, e.subscore) for e in entries]


@dataclass(frozen=True)
class BigBoard:
    """A board, and the sorted list that it is held against. Places begin at 0."""

    stub: pb_grpc.RankingServiceAsyncStub
    board_id: str
    count: int
    number_of: Callable[[int], int]

    @cached_property
    def keys(self) -> list[int]:
        """All entries as numbers, best first."""
        return sorted(map(self.key, range(1, self.count + 1)))

    def key(self, user: int) -> int:
        """An entry as a number, smaller is better."""
        subscore, score = divmod(self.number_of(user), _SCORES)
        return _result(score, subscore % _SUBSCORES) * _ARRIVALS + _ARRIVALS - user

    def before(self, score: int, subscore: int, mode: Mode) -> int:
        """The entries that stand before the place that a result would take."""
        behind = 0 if mode == COMPETITION else 1
        return bisect.bisect_left(self.keys, (_result(score, subscore) + behind) * _ARRIVALS)

    def entry(self, place: int, mode: Mode) -> Told:
        """The entry at a place."""
        result, arrival = divmod(self.keys[place], _ARRIVALS)
        better, subscore = divmod(result, _SUBSCORES)
        rank = place + 1
        if mode == COMPETITION:
            rank = bisect.bisect_left(self.keys, result * _ARRIVALS) + 1
        score = _SCORES - 1 - better
        return (_ARRIVALS - arrival, rank, rank, rank, score, _SUBSCORES - 1 - subscore)

    def page(self, first: int, last: int, mode: Mode) -> list[Told]:
        """The entries from one place to before another, as far as there are any."""
        return [self.entry(place, mode) for place in range(max(first, 0), min(last, self.count))]

    def window(self, first: int, last: int, mode: Mode) -> list[Told]:
        """As `page`, but what is missing at one end of the board comes from the other side."""
        shift = max(-first, 0) - max(last - self.count, 0)
        return self.page(first + shift, last + shift, mode)

    def place(self, user: int) -> int:
        """Where a user stands."""
        return bisect.bisect_left(self.keys, self.key(user))


@pytest.fixture(scope="module")
async def million(
    postgres: EmbeddedPostgres, redis_cluster: EmbeddedRedisCluster
) -> AsyncIterator[BigBoard]:
    """A server without caches, whose index was built from a filled database."""
    await empty(redis_cluster)
    async with _database(postgres) as dsn:
        settings = settings_for(dsn, redis_cluster)
        reads = settings.reads.model_copy(update={"first_page_ms": 0, "hot_entries_max": 0})
        settings = settings.model_copy(update={"reads": reads})
        async with (
            serving(settings) as addresses,
            AsyncClient(addresses.public, timeout_s=20) as client,
        ):
            server = RunningServer(
                addresses.public, addresses.admin, client, settings, redis_cluster
            )
            await _fill(server, dsn)
            async with server.channel() as channel:
                yield BigBoard(pb_grpc.RankingServiceStub(channel), "arena", ENTRIES, _hashed)


@pytest.fixture
def trips() -> Iterator[RoundTrips]:
    """Counts what the calls of a test cost the index."""
    with counted() as trips:
        yield trips


@asynccontextmanager
async def _database(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    name = "million"
    async with await psycopg.AsyncConnection.connect(postgres.dsn, autocommit=True) as connection:
        await connection.execute(f"create database {name}")
        await migrate(postgres.dsn_of(name))
        yield postgres.dsn_of(name)
        await connection.execute(f"drop database {name} with (force)")


async def _fill(server: RunningServer, dsn: str) -> None:
    for board_id, count in (("pattern", PATTERNED), ("arena", ENTRIES)):
        await server.client.boards.create(Board(board_id=board_id))
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute(_FILL, {"board_id": board_id, "count": count})
    await server.forget_index()
    started = time.monotonic()
    async with asyncio.timeout(300):
        for board_id, count in (("pattern", PATTERNED), ("arena", ENTRIES)):
            while await _entry_count(server.client, board_id) != count:
                continue
    _log.info("built in %.1f s", time.monotonic() - started)


async def _entry_count(client: AsyncClient, board_id: str) -> int | None:
    try:
        return (await client.list_entries(board_id, page_size=1)).meta.entry_count
    except StandingsError:
        return None


@MODES
async def test_every_rank_is_exact(million: BigBoard, trips: RoundTrips, mode: Mode) -> None:
    """The entries of 1,000 random users, two round trips each."""
    options = types_pb.ReadOptions(rank_mode=mode)
    for user in random.Random(1).sample(range(1, ENTRIES + 1), 1_000):
        answer = await million.stub.GetEntry(
            pb.GetEntryRequest(board_id="arena", user_id=user, options=options)
        )

        assert _told([answer.entry]) == [million.entry(million.place(user), mode)]
        assert answer.meta.entry_count == ENTRIES
        assert trips.taken() == 2


@MODES
async def test_a_thousand_users_cost_what_one_does(
    million: BigBoard, trips: RoundTrips, mode: Mode
) -> None:
    """999 users and one whom nobody knows, best first, with ranks on the board and in the list."""
    users = random.Random(2).sample(range(1, ENTRIES + 1), 999)
    answer = await million.stub.BatchGetEntries(
        pb.BatchGetEntriesRequest(
            board_id="arena",
            user_ids=[*users, ENTRIES + 1],
            options=types_pb.ReadOptions(rank_mode=mode),
        )
    )

    expected = [million.entry(place, mode) for place in sorted(map(million.place, users))]
    assert _told(answer.entries) == expected
    ranks = [rank for _, rank, *_ in expected]
    assert [entry.list_rank for entry in answer.entries] == [ranks.index(n) + 1 for n in ranks]
    assert list(answer.missing_user_ids) == [ENTRIES + 1]
    assert trips.taken() == 2


@MODES
@pytest.mark.parametrize("size", [10, 100])
@pytest.mark.parametrize("start_rank", [1, 1_000, 100_000, 500_000, 999_900])
async def test_pages_are_exact_at_any_depth(
    million: BigBoard, trips: RoundTrips, start_rank: int, size: int, mode: Mode
) -> None:
    """The page at a rank, those before and after it by its tokens, and back again."""
    shared = 1 if mode == COMPETITION else 0
    request = _list(million, size, mode)
    first, last = start_rank - 1, start_rank - 1 + size

    page = await request(start_rank=start_rank)
    # Shared ranks cost one more where equals of the first entry stand before it.
    assert trips.taken() <= (1 if start_rank == 1 else 3 + shared)
    after = await request(page_token=page.next_page_token)
    assert trips.taken() <= 1 + shared
    back = await request(page_token=after.previous_page_token)
    assert trips.taken() <= 1 + shared

    assert _told(page.entries) == _told(back.entries) == million.page(first, last, mode)
    assert _told(after.entries) == million.page(last, last + size, mode)
    assert page.meta.entry_count == ENTRIES
    if start_rank == 1:
        assert page.previous_page_token == ""
        return
    before = await request(page_token=page.previous_page_token)
    assert trips.taken() <= 1 + shared
    again = await request(page_token=before.next_page_token)
    assert _told(before.entries) == million.page(first - size, first, mode)
    assert _told(again.entries) == million.page(first, last, mode)


async def test_a_page_anywhere_costs_about_two_round_trips(
    million: BigBoard, trips: RoundTrips
) -> None:
    """100 random depths: never more than three, 2.2 on average."""
    request = _list(million, 10, ORDINAL)
    taken = []
    for start_rank in random.Random(3).sample(range(1, ENTRIES + 1), 100):
        page = await request(start_rank=start_rank)
        taken.append(trips.taken())

        assert _told(page.entries) == million.page(start_rank - 1, start_rank + 9, ORDINAL)
    _log.info("round trips: %s", Counter(taken))
    assert max(taken) <= 3
    assert sum(taken) / len(taken) <= 2.2


async def test_scores_that_follow_the_shards_cost_a_little_more(
    million: BigBoard, trips: RoundTrips
) -> None:
    """Where all equals are of one shard, pages and neighbours are as exact; a page takes four
    round trips at most, neighbours three.
    """
    board = BigBoard(million.stub, "pattern", PATTERNED, _patterned)
    request = _list(board, 10, ORDINAL)
    taken = []
    for start_rank in random.Random(7).sample(range(1, PATTERNED + 1), 100):
        page = await request(start_rank=start_rank)
        taken.append(trips.taken())
        user = page.entries[0].user_id
        around = await board.stub.ListEntriesAround(
            pb.ListEntriesAroundRequest(board_id="pattern", user_id=user)
        )

        assert trips.taken() <= 3
        place = start_rank - 1
        assert _told(page.entries) == board.page(place, place + 10, ORDINAL)
        assert _told(around.entries) == board.window(place - 5, place + 6, ORDINAL)
    _log.info("round trips: %s", Counter(taken))
    assert max(taken) <= 4


async def test_a_range_of_scores_keeps_the_ranks_of_the_board(
    million: BigBoard, trips: RoundTrips
) -> None:
    """From the best of a range, from a rank within it, and to its end."""
    first, last = million.before(30_000, 2, COMPETITION), million.before(29_998, 0, ORDINAL)
    request = _list(million, 10, ORDINAL, min_score=29_998, max_score=30_000)

    top = await request()
    assert trips.taken() == 1
    inside = await request(start_rank=first + 21)
    assert trips.taken() <= 4
    end = await request(start_rank=last - 1)
    behind = await request(start_rank=last + 1)

    assert _told(top.entries) == million.page(first, first + 10, ORDINAL)
    assert _told(inside.entries) == million.page(first + 20, first + 30, ORDINAL)
    assert _told(end.entries) == million.page(last - 2, last, ORDINAL)
    assert (top.previous_page_token, end.next_page_token) == ("", "")
    assert (_told(behind.entries), behind.next_page_token) == ([], "")


@MODES
@pytest.mark.parametrize(("above", "below"), [(5, 5), (100, 100), (0, 7)])
async def test_neighbours_are_exact_everywhere(
    million: BigBoard, trips: RoundTrips, above: int, below: int, mode: Mode
) -> None:
    """Around the first, the last and random users; the window is full at both ends too."""
    shared = 1 if mode == COMPETITION else 0
    places = [0, 1, 4, ENTRIES - 3, ENTRIES - 1, *random.Random(4).sample(range(ENTRIES), 25)]
    taken = []
    for place in places:
        answer = await million.stub.ListEntriesAround(
            pb.ListEntriesAroundRequest(
                board_id="arena",
                user_id=million.entry(place, mode)[0],
                above=above,
                below=below,
                options=types_pb.ReadOptions(rank_mode=mode),
            )
        )
        taken.append(trips.taken())

        assert _told(answer.entries) == million.window(place - above, place + below + 1, mode)
    assert max(taken) <= 3 + shared
    assert sum(taken) / len(taken) <= 2.2 + shared


@MODES
async def test_the_neighbours_of_a_result_are_exact(
    million: BigBoard, trips: RoundTrips, mode: Mode
) -> None:
    """Around the best, the worst, random and impossible results."""
    shared = 1 if mode == COMPETITION else 0
    results = [(_SCORES - 1, 2), (0, 0), (_SCORES + 5, 0), (-7, 1)]
    rng = random.Random(5)
    results += [(rng.randrange(_SCORES), rng.randrange(_SUBSCORES)) for _ in range(20)]
    taken = []
    for score, subscore in results:
        answer = await million.stub.ListEntriesAround(
            pb.ListEntriesAroundRequest(
                board_id="arena",
                score_point=pb.ScorePoint(score=score, subscore=subscore),
                options=types_pb.ReadOptions(rank_mode=mode),
            )
        )
        taken.append(trips.taken())

        place = million.before(score, subscore, ORDINAL)
        assert _told(answer.entries) == million.window(place - 5, place + 5, mode)
    assert max(taken) <= 2 + shared
    assert sum(taken) / len(taken) <= 1.2 + shared


@MODES
async def test_estimates_are_exact(million: BigBoard, trips: RoundTrips, mode: Mode) -> None:
    """The rank of random results, and what they lack to the next place, a rank and a percent."""
    rng = random.Random(6)
    for _ in range(30):
        score, subscore = rng.randrange(-5, _SCORES + 5), rng.randrange(_SUBSCORES)
        rank, percent = rng.randint(1, ENTRIES), rng.choice([0.001, 0.1, 1, 7, 50, 99.9, 100])
        answer = await million.stub.EstimateRank(
            pb.EstimateRankRequest(
                board_id="arena",
                score=score,
                subscore=subscore,
                target_rank=rank,
                target_percent=percent,
                options=types_pb.ReadOptions(rank_mode=mode),
            )
        )
        # The place and the page at the rank at once; then the page at the percent.
        assert trips.taken() <= 3 + 3

        before = million.before(score, subscore, mode)
        assert (answer.rank, answer.rank_low, answer.rank_high) == (before + 1,) * 3
        assert answer.HasField("next") == (before > 0)
        if before:
            next_rank = million.entry(before - 1, mode)[1]
            _check_target(million, answer.next, next_rank, before - 1, (score, subscore, mode))
        asked = (score, subscore, mode)
        _check_target(million, answer.for_rank, rank, rank - 1, asked)
        best = math.ceil(round(percent * 1_000) * ENTRIES / 100_000)
        _check_target(million, answer.for_percent, best, best - 1, asked)


def _check_target(
    million: BigBoard,
    target: pb.RankTarget,
    rank: int,
    holder: int,
    asked: tuple[int, int, Mode],
) -> None:
    """Holds a target against the least score that has the rank, found by trying."""
    score, subscore, mode = asked
    candidates = range(score, _SCORES + 6)
    needed = candidates[
        bisect.bisect_left(
            candidates, 1, key=lambda one: million.before(one, subscore, mode) + 1 <= rank
        )
    ]
    assert target.rank == rank
    assert (target.score, target.subscore) == million.entry(holder, mode)[4:]
    assert (target.score_needed, target.score_gap) == (needed, needed - score)
    assert target.reached == (needed == score)


async def test_percentiles_are_exact_both_ways(million: BigBoard, trips: RoundTrips) -> None:
    """The result at a percent, and the percent of a result."""
    for permille in (1, 10, 70, 250, 500, 999, 1_000):
        answer = await million.stub.GetPercentile(
            pb.GetPercentileRequest(board_id="arena", percent=permille / 10)
        )
        assert trips.taken() <= 4

        rank = permille * ENTRIES // 1_000
        assert (answer.percent, answer.rank) == (permille / 10, rank)
        point = (answer.score_point.score, answer.score_point.subscore)
        assert point == million.entry(rank - 1, ORDINAL)[4:]
    for score in (_SCORES, _SCORES - 1, 31_415, 0, -1):
        answer = await million.stub.GetPercentile(
            pb.GetPercentileRequest(board_id="arena", score_point=pb.ScorePoint(score=score))
        )
        assert trips.taken() == 1

        rank = million.before(score, 0, ORDINAL)
        assert (answer.percent, answer.rank) == (100 * rank / ENTRIES, rank)


def _list(
    board: BigBoard, size: int, mode: Mode, **filters: Any
) -> Callable[..., Awaitable[pb.ListEntriesResponse]]:
    """A call for a page that takes what is still missing: start_rank or page_token."""
    options = types_pb.ReadOptions(rank_mode=mode)
    return lambda **begin: board.stub.ListEntries(
        pb.ListEntriesRequest(
            board_id=board.board_id, page_size=size, options=options, **filters, **begin
        )
    )
