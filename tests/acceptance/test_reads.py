"""What reads say about themselves, and what they show, with caches on. Over the wire."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from standings_client import (
    AsyncClient,
    Board,
    ConsistencyTokenInvalid,
    EntryNotFound,
    Exactness,
    Operator,
    ReadMeta,
    RetryPolicy,
    Source,
    Submission,
)
from tests.fixtures.redis import empty
from tests.fixtures.server import RunningServer, Serve, settings_for

pytestmark = pytest.mark.both_engines

_USERS = range(1, 31)
_FRESH = timedelta(0)
_ONE_TRY = RetryPolicy(attempt_count_max=1)
_Read = Callable[..., Awaitable[ReadMeta]]


async def _fill(client: AsyncClient, board_id: str = "arena") -> str:
    """A board on which user n has n points; returns the token of all that."""
    await client.boards.create(Board(board_id=board_id, operator=Operator.SET))
    batch = await client.batch_submit_scores([Submission(board_id, user, user) for user in _USERS])
    return batch.consistency_token


def _reads_of(client: AsyncClient) -> Mapping[str, _Read]:
    """Every read of the board, by name; each gives what its answer says about itself."""

    async def list_entries(**options: Any) -> ReadMeta:
        return (await client.list_entries("arena", **options)).meta

    async def get_entry(**options: Any) -> ReadMeta:
        return (await client.get_entry("arena", 3, **options)).meta

    async def batch_get_entries(**options: Any) -> ReadMeta:
        return (await client.batch_get_entries("arena", [3, 4], **options)).meta

    async def around_a_user(**options: Any) -> ReadMeta:
        return (await client.list_entries_around("arena", user_id=3, **options)).meta

    async def around_a_score(**options: Any) -> ReadMeta:
        return (await client.list_entries_around("arena", score=3, **options)).meta

    async def estimate_rank(**options: Any) -> ReadMeta:
        return (await client.estimate_rank("arena", 3, **options)).meta

    async def percentile(**options: Any) -> ReadMeta:
        return (await client.get_percentile("arena", 50, **options)).meta

    async def percent_of_a_score(**options: Any) -> ReadMeta:
        return (await client.get_percentile("arena", score=3, **options)).meta

    reads = (list_entries, get_entry, batch_get_entries, around_a_user, around_a_score)
    return {read.__name__: read for read in (*reads, estimate_rank, percentile, percent_of_a_score)}


async def test_an_answer_of_the_index_is_of_now(standings: RunningServer) -> None:
    """Every read: all shards, exact, not stale, and as of a moment within the call."""
    await _fill(standings.client)

    for name, read in _reads_of(standings.client).items():
        before = datetime.now(UTC)
        meta = await read(max_staleness=_FRESH)
        after = datetime.now(UTC)

        assert meta.as_of is not None, name
        # The wire has whole milliseconds.
        assert before - timedelta(milliseconds=1) <= meta.as_of <= after, name
        assert (meta.source, meta.exactness) == (Source.INDEX, Exactness.EXACT), name
        assert (meta.stale, meta.staleness) == (False, _FRESH), name
        assert (meta.shards_answered, meta.shards_missing) == (16, ()), name
        assert (meta.season_id, meta.entry_count) == ("s1", len(_USERS)), name
        assert meta.epoch > 0, name


@pytest.mark.parametrize("name", ["list_entries", "get_entry"])
async def test_an_answer_of_a_cache_tells_its_age(standings: RunningServer, name: str) -> None:
    """The second answer is the first one again, says so, and is as old as that."""
    await _fill(standings.client)
    read = _reads_of(standings.client)[name]
    async with asyncio.timeout(30):
        while True:
            before = datetime.now(UTC)
            first = await read(max_staleness=_FRESH)
            between = datetime.now(UTC)
            again = await read()
            after = datetime.now(UTC)
            # On a very busy machine a page may be too old by then.
            if again.source is Source.CACHE:
                break

    assert again.stale
    assert (again.as_of, again.epoch, again.entry_count) == (
        first.as_of,
        first.epoch,
        len(_USERS),
    )
    assert timedelta(0) < again.staleness <= after - before + timedelta(milliseconds=1)
    fresh = await read(max_staleness=_FRESH)
    assert (fresh.source, fresh.stale) == (Source.INDEX, False)
    assert fresh.as_of is not None
    assert fresh.as_of >= between - timedelta(milliseconds=1)


async def test_an_epoch_grows_with_a_rebuild(standings: RunningServer) -> None:
    """An index that was lost is another one when it is back, and has all entries again."""
    await _fill(standings.client)
    reads = _reads_of(standings.client)
    before = await reads["list_entries"](max_staleness=_FRESH)

    await standings.forget_index()
    sources = set()
    async with asyncio.timeout(60):
        while (after := await reads["list_entries"](max_staleness=_FRESH)).source != Source.INDEX:
            # Meanwhile the ledger answers, as exactly.
            assert (after.source, after.exactness) == (Source.DATABASE, Exactness.EXACT)
            assert after.entry_count == before.entry_count
            sources.add(after.source)

    assert sources
    assert after.epoch > before.epoch
    assert after.entry_count == before.entry_count
    for name, read in reads.items():
        assert (await read(max_staleness=_FRESH)).epoch == after.epoch, name


async def test_a_silent_index_costs_no_answer(
    database: str, redis_faults: EmbeddedRedisCluster, serve: Serve
) -> None:
    """The ledger answers everything in its place, the truth of the moment."""
    async with _impatient_server(serve, database, redis_faults) as client:
        await _fill(client)
        reads = _reads_of(client)
        first = {name: await read() for name, read in reads.items()}
        for node in redis_faults.nodes:
            node.freeze()

        for name, read in reads.items():
            meta = await read(max_staleness=_FRESH)
            assert (meta.source, meta.stale) == (Source.DATABASE, False), name
            assert (meta.exactness, meta.entry_count) == (
                Exactness.EXACT,
                first[name].entry_count,
            ), name
            assert set(meta.shards_missing) == set(range(16)), name


@asynccontextmanager
async def _impatient_server(
    serve: Serve, database: str, cluster: EmbeddedRedisCluster
) -> AsyncIterator[AsyncClient]:
    """A server that gives the index up soon, and a client that tries once."""
    await empty(cluster)
    settings = settings_for(database, cluster)
    quick = {"operation_timeout_s": 0.3, "response_timeout_s": 0.3}
    settings = settings.model_copy(update={"redis": settings.redis.model_copy(update=quick)})
    async with (
        serve(settings) as addresses,
        AsyncClient(addresses.public, timeout_s=10, retry_policy=_ONE_TRY) as client,
    ):
        yield client


async def test_nobody_sees_the_state_before_their_own_write(standings: RunningServer) -> None:
    """Eight users write and read at once, 320 writes, while others keep the caches hot: by token
    or from the same worker, every read shows the write.
    """
    client = standings.client
    await _fill(client)
    sources: set[Source] = set()
    done = asyncio.Event()
    players = random.Random(1).sample(_USERS, 8)

    async def watch() -> None:
        while not done.is_set():
            sources.add((await client.list_entries("arena", page_size=30)).meta.source)
            sources.add((await client.get_entry("arena", players[0])).meta.source)

    async def play(user: int) -> None:
        rng = random.Random(user)
        for _ in range(40):
            score = rng.randrange(1_000_000)
            result = await client.submit_score("arena", user, score)
            await _require_shown(client, user, score, consistency_token=result.consistency_token)
            await _require_shown(client, user, score)

    watchers = [asyncio.create_task(watch()) for _ in range(3)]
    async with asyncio.timeout(120):
        await asyncio.gather(*map(play, players))
    done.set()
    await asyncio.gather(*watchers)
    assert sources == {Source.INDEX, Source.CACHE}


async def _require_shown(client: AsyncClient, user: int, score: int, **options: Any) -> None:
    """Every kind of read has this score for the user."""
    told = [
        [(await client.get_entry("arena", user, **options)).entry],
        (await client.list_entries("arena", page_size=30, **options)).entries,
        (await client.batch_get_entries("arena", [user], **options)).entries,
        (await client.list_entries_around("arena", user_id=user, **options)).entries,
    ]
    assert [[e.score for e in entries if e.user_id == user] for entries in told] == [[score]] * 4


async def test_a_token_sees_through_another_workers_caches(
    standings: RunningServer, serve: Serve, tmp_path: Path
) -> None:
    """Written at one worker, read at another one whose caches are full: by token the new state,
    without it possibly the old one, which then says that it is.
    """
    old_answers = 0
    async with AsyncExitStack() as stack:
        settings = standings.settings
        state = settings.state.model_copy(update={"directory": tmp_path})
        settings = settings.model_copy(update={"state": state})
        addresses = await stack.enter_async_context(serve(settings))
        other = await stack.enter_async_context(AsyncClient(addresses.public, timeout_s=20))
        writer = standings.client
        await _fill(writer)
        rng = random.Random(2)
        for _ in range(100):
            user, score = rng.choice(_USERS), rng.randrange(1_000_000)
            await other.get_entry("arena", user)
            await other.list_entries("arena", page_size=30)
            result = await writer.submit_score("arena", user, score)

            answer = await other.get_entry("arena", user)
            if answer.entry.score != score:
                old_answers += 1
                assert (answer.meta.source, answer.meta.stale) == (Source.CACHE, True)
            token = result.consistency_token
            await _require_shown(other, user, score, consistency_token=token)
            if result.indexed:
                await _require_shown(other, user, score, max_staleness=_FRESH)
    # Otherwise there was no cache to see through.
    assert old_answers > 50


async def test_who_is_taken_off_a_board_is_in_no_cache(standings: RunningServer) -> None:
    """Hidden, restored, deleted from the board, deleted from everywhere: each shows at once, in the
    page, in the user's own entry and in the ranks of the others, whatever was kept before.
    """
    client = standings.client
    await _fill(client)
    top = len(_USERS)

    async def require(first: int, ranks: Mapping[int, int | None]) -> None:
        # Twice: what the first read kept answers the second.
        for _ in range(2):
            page = await client.list_entries("arena", page_size=3)
            assert [entry.user_id for entry in page.entries] == [first, first - 1, first - 2]
            assert await _ranks(client, ranks) == ranks

    await require(top, {top: 1, top - 1: 2})
    await client.moderation.hide_user(top, board_id="arena")
    await require(top - 1, {top: None, top - 1: 1})
    shadow = await client.get_entry("arena", top, viewer_user_id=top)
    assert (shadow.entry.rank, shadow.entry.hidden) == (1, True)
    await client.moderation.restore_user(top, board_id="arena")
    await require(top, {top: 1, top - 1: 2})
    await client.delete_entry("arena", top)
    await require(top - 1, {top: None, top - 1: 1})
    await client.moderation.delete_user(top - 1)
    await require(top - 2, {top - 1: None, top - 2: 1})
    assert (await client.list_entries("arena")).meta.entry_count == top - 2


async def _ranks(client: AsyncClient, users: Iterable[int]) -> Mapping[int, int | None]:
    """Each user's rank by GetEntry; None: there is no entry."""
    ranks: dict[int, int | None] = {}
    for user in users:
        try:
            ranks[user] = (await client.get_entry("arena", user)).entry.rank
        except EntryNotFound:
            ranks[user] = None
    return ranks


async def test_a_consistency_token_is_good_for_its_own_board_only(
    standings: RunningServer,
) -> None:
    """Of another board, changed or made up: INVALID_ARGUMENT from every read."""
    client = standings.client
    token = await _fill(client)
    foreign = await _fill(client, "beach")
    page_token = (await client.list_entries("arena")).next_page_token

    for name, read in _reads_of(client).items():
        assert (await read(consistency_token=token)).source is Source.INDEX, name
        for bad in (foreign, token[:-2] + "AA", "x", page_token):
            with pytest.raises(ConsistencyTokenInvalid):
                await read(consistency_token=bad)


async def test_an_empty_board_answers_every_question(standings: RunningServer) -> None:
    """Nobody is there, and whoever comes first would be number one."""
    client = standings.client
    await client.boards.create(Board(board_id="arena"))

    page = await client.list_entries("arena")
    deep = await client.list_entries("arena", start_rank=1_000)
    around = await client.list_entries_around("arena", score=5)
    friends = await client.batch_get_entries("arena", [1, 2])
    nobody = await client.batch_get_entries("arena", [])
    estimate = await client.estimate_rank("arena", -5, target_rank=3, target_percent=10)
    percentile = await client.get_percentile("arena", 50)
    percent = await client.get_percentile("arena", score=5)
    for answer in (page, deep):
        assert (answer.entries, answer.next_page_token, answer.previous_page_token) == ((), "", "")
    assert around.entries == ()
    assert (friends.entries, friends.missing_user_ids) == ((), (1, 2))
    assert (nobody.entries, nobody.missing_user_ids) == ((), ())
    assert (estimate.rank, estimate.next, estimate.for_percent) == (1, None, None)
    assert estimate.for_rank is not None
    assert (estimate.for_rank.score, estimate.for_rank.reached) == (None, True)
    assert (percentile.percent, percentile.rank, percentile.point) == (50, 0, None)
    assert (percent.percent, percent.rank) == (0, 0)
    for answer in (page, deep, around, friends, nobody, estimate, percentile, percent):
        assert (answer.meta.entry_count, answer.meta.shards_answered) == (0, 16)
        assert answer.meta.source in (Source.INDEX, Source.CACHE)
    with pytest.raises(EntryNotFound):
        await client.get_entry("arena", 1)
    with pytest.raises(EntryNotFound):
        await client.list_entries_around("arena", user_id=1)


async def test_a_page_behind_the_end_leads_back(standings: RunningServer) -> None:
    """Nobody stands there; its token gives the last entries of the board."""
    client = standings.client
    await _fill(client)

    page = await client.list_entries("arena", start_rank=31, page_size=4)
    back = await client.list_entries("arena", page_token=page.previous_page_token, page_size=4)

    assert (page.entries, page.next_page_token) == ((), "")
    assert [entry.user_id for entry in back.entries] == [4, 3, 2, 1]
    assert [entry.rank for entry in back.entries] == [27, 28, 29, 30]
    assert back.next_page_token == ""
