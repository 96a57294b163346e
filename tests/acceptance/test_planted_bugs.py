"""The checker proves itself: every bug that is planted is found, and without one nothing is.

They are planted in the real code on real stores; tests/unit/chaos/test_conduct.py plants those that
a history alone can show.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from bootstrap.embedded.waiting import until
from chaos.admin import FORCED_OPEN, admin_of
from chaos.calls import RANK, TOP, Channels
from chaos.checker import Verdict, check
from chaos.history import SUBMIT, Attempt, History, Meta, Place
from chaos.load import BOARDS, Budget, Load, Players, Population, new_history
from chaos.stores import Found, Ledger, Stores
from chaos.verdicts import Harm, Invariant
from cli.serving import serving
from core.flushes import Flush, FlushResult
from core.ordering import Ordering
from core.own_writes import KeptAnswer
from core.ports import Freshness, KeyRange
from core.types import Board, Operator, ReadMeta, Source
from resilience.breaker import Breaker, Outcome
from resilience.overrides import Mode
from sharding import apply, keeping, node, reading
from sharding.keys import season_keys
from sharding.library import LIBRARY, Library
from sharding.router import Router
from standings_client import Board as ClientBoard
from standings_client import Operator as ClientOperator
from standings_client import Submission
from storage import ledger
from storage.exchange import Steps, Talk
from storage.ledger import PostgresLedger
from tests.fakes.making import board_spec, submission
from tests.fixtures.keeping import Kept
from tests.fixtures.server import RunningServer

pytestmark = pytest.mark.grpcio_only("its bugs are planted in a server of the test's own process")

USERS = 200
PLAY_S = 1.5
IMPATIENT_S = 0.01


class Arena:
    """Boards on a running server, played on by many, and judged afterwards."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        dsn = server.settings.postgres.dsn
        assert dsn is not None
        self.stores = Stores(dsn.get_secret_value(), server.cluster.addresses)

    async def make(self) -> None:
        """Boards on which everybody has an entry."""
        for board, operator in BOARDS.items():
            await self.server.client.boards.create(
                ClientBoard(board_id=board, operator=ClientOperator[operator])
            )
            await self.server.client.batch_submit_scores(
                [Submission(board, user, user) for user in range(1, USERS + 1)]
            )

    async def play(
        self, *, reads_from: str = "", impatient: int = 0, forced: bool = False
    ) -> Verdict:
        """What the checker says of a moment of load. Reads may go to another server; so many
        callers a second may hang up at once; the index may be forced out of play meanwhile.

        A busy machine may stand still for a moment. So conduct alone, where nothing was lost,
        doubled or wrong, is looked at once more: a bug shows again.
        """
        verdict = await self._play(reads_from=reads_from, impatient=impatient, forced=forced)
        if verdict.breaches and all(one.harm is Harm.CONDUCT for one in verdict.breaches):
            verdict = await self._play(reads_from=reads_from, impatient=impatient, forced=forced)
        return verdict

    async def _play(self, *, reads_from: str, impatient: int, forced: bool) -> Verdict:
        before = {board: await self.stores.ledger(board) for board in BOARDS}
        history = new_history()
        users = dict.fromkeys(BOARDS, Population(USERS))
        numbers = itertools.count(1)
        async with AsyncExitStack() as stack:
            # Whoever is patient lends those time who ask the same at once: then nobody does.
            reads = {TOP: 1.0} if impatient else {TOP: 0.5, RANK: 0.5}
            for address, shares, rate in (
                (self.server.address, {SUBMIT: 1.0}, 15 if impatient else 60),
                (reads_from or self.server.address, reads, 15 if impatient else 60),
            ):
                channels = Channels(address, 2)
                stack.push_async_callback(channels.close)
                players = Players(users, random.Random(7), shares=shares, numbers=numbers)
                # What retries there are at first of a long run are too many for a moment.
                load = Load(channels, players, history, rate=rate, budget=Budget(tokens=0))
                await stack.enter_async_context(load)
            if impatient:
                channels = Channels(self.server.address, 2)
                stack.push_async_callback(channels.close)
                # All of one user, and so of one shard, which everybody else needs too.
                players = Players(
                    dict.fromkeys(BOARDS, Population(1)),
                    random.Random(8),
                    shares={RANK: 1.0},
                    numbers=numbers,
                    read_s=IMPATIENT_S,
                )
                hasty = Load(channels, players, history, rate=impatient, budget=Budget(tokens=0))
                await stack.enter_async_context(hasty)
            if forced:
                admin = await stack.enter_async_context(admin_of(self.server.admin_address))
                await admin.set_breaker(history, "redis/*", FORCED_OPEN, ttl_s=1.0)
            await asyncio.sleep(PLAY_S)
        return check(_in_time(history), [await self._found(board, before) for board in BOARDS])

    async def _found(self, board: str, before: dict[str, Ledger]) -> Found:
        async def equal() -> bool:
            held = await self.stores.ledger(board)
            return await self.stores.index(held.season) == held.keys()

        await until(equal, timeout_s=3)
        return await self.stores.found(board, BOARDS[board], before[board])


@pytest.fixture
async def arena(standings: RunningServer) -> Arena:
    """Boards on a running server."""
    arena = Arena(standings)
    await arena.make()
    return arena


def _in_time(history: History) -> History:
    """The same, whatever a busy machine made of the deadlines of those who are patient."""
    attempts = [
        attempt if attempt.deadline_s == IMPATIENT_S else replace(attempt, deadline_s=30.0)
        for attempt in history.attempts
    ]
    return replace(history, attempts=attempts)


async def test_a_run_without_a_bug_is_clean(arena: Arena) -> None:
    """Nothing is found where nothing is wrong."""
    verdict = await arena.play()

    assert verdict.summary() == []


async def test_found_acknowledged_before_the_commit(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fifth transaction is rolled back after its callers were promised it."""
    flushes = itertools.count(1)

    def hasty(talk: Talk, work: Steps[Any], told: Callable[[Any], object]) -> Steps[Any]:
        promised = told((yield from work))
        talk.command(b"rollback" if next(flushes) % 5 == 0 else b"commit")
        talk.sync()
        yield from talk.done()
        yield from talk.synced()
        return promised

    monkeypatch.setattr(ledger, "transaction", hasty)

    verdict = await arena.play()

    assert verdict.count(Harm.LOST) > 0
    assert Invariant.NOTHING_LOST in verdict.invariants()


async def test_found_one_in_a_thousand_dropped(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submission is answered with what became of its neighbour, and is not recorded."""
    numbers = itertools.count(1)
    record = PostgresLedger.record

    async def forgetful(
        own: PostgresLedger, flush: Flush, arrived: Callable[[], object] = lambda: None
    ) -> FlushResult:
        dropped = [item for item in flush.placed if next(numbers) % 1_000 == 0]
        kept = [item for item in flush.placed if item not in dropped]
        result = await record(own, Flush(flush.arrival, kept), arrived)
        for item in dropped:
            neighbour: Any = result.results[kept[0].place]
            told = replace(neighbour, submission_id=item.submission.submission_id)
            result.results[item.place] = told
        return result

    monkeypatch.setattr(PostgresLedger, "record", forgetful)

    verdict = await arena.play()

    assert 0 < verdict.count(Harm.LOST) < 10


async def test_found_applied_twice(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """An increment counts double now and then."""
    record = PostgresLedger.record

    async def generous(
        own: PostgresLedger, flush: Flush, arrived: Callable[[], object] = lambda: None
    ) -> FlushResult:
        result = await record(own, flush, arrived)
        async with own._write.connection() as connection:
            first = flush.placed[0]
            await connection.execute(
                "update entries set score = score + %s, revision = revision + 1"
                " where season_no = %s and user_id = %s and user_id %% 7 = 0",
                (first.submission.score, first.board.season.number, first.submission.user_id),
            )
        return result

    monkeypatch.setattr(PostgresLedger, "record", generous)

    verdict = await arena.play()

    assert verdict.count(Harm.DOUBLED) > 0


async def test_found_always_said_to_be_of_the_index(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker remembers from before another's writes is given as read just now."""
    meta_with = KeptAnswer.meta_with

    def proud(answer: KeptAnswer[Any], *args: Any) -> ReadMeta:
        return replace(meta_with(answer, *args), source=Source.INDEX, staleness_ms=0)

    async with serving(arena.server.settings, with_jobs=False) as other:
        honest = await arena.play(reads_from=other.public)
        monkeypatch.setattr(KeptAnswer, "meta_with", proud)
        verdict = await arena.play(reads_from=other.public)

    assert honest.summary() == []
    assert Invariant.HONEST in verdict.invariants()


@pytest.mark.parametrize("planted", [False, True])
async def test_found_an_override_ignored(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, *, planted: bool
) -> None:
    """An operator takes the index out of play, and answers come from it all the same."""
    if planted:
        look = Breaker.look
        monkeypatch.setattr(Breaker, "look", lambda own, _mode, fault: look(own, Mode.AUTO, fault))

    verdict = await arena.play(forced=True)

    assert (Invariant.OVERRIDES_HELD in verdict.invariants()) is planted
    assert planted or verdict.summary() == []


@pytest.mark.parametrize("planted", [False, True])
async def test_found_cancels_counted_as_failures(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, *, planted: bool
) -> None:
    """Callers who hang up open breakers, and others are sent elsewhere while nothing is wrong."""
    exchange = Router._exchange

    async def distant(own: Router, *args: Any) -> Any:
        await asyncio.sleep(2 * IMPATIENT_S)
        return await exchange(own, *args)

    monkeypatch.setattr(Router, "_exchange", distant)
    if planted:
        settle = Breaker.settle

        def strict(own: Breaker, epoch: int, outcome: Outcome, took_s: float) -> None:
            failed = Outcome.LOST if outcome is Outcome.NEUTRAL else outcome
            settle(own, epoch, failed, took_s)

        monkeypatch.setattr(Breaker, "settle", strict)

    verdict = await arena.play(impatient=150)

    assert (Invariant.ERRORS_TOLD in verdict.invariants()) is planted
    assert planted or verdict.summary() == []


# --- bugs of the functions in Redis ----------------------------------------------------------


def _plant(monkeypatch: pytest.MonkeyPatch, right: bytes, wrong: bytes) -> None:
    """Other functions from now on, in a library of another name."""
    body = LIBRARY.source.split(b"\n", 2)[2]
    assert body.count(right) == 1
    library = Library.of([body.replace(right, wrong)])
    for module in (apply, keeping, node, reading):
        monkeypatch.setattr(module, "LIBRARY", library)


async def _board(kept: Kept) -> Board:
    """A board in both stores with nobody on it."""
    board = await kept.boards.create(board_spec(operator=Operator.INCREMENT))
    await kept.build.season(board.season.number)
    return board


async def _converged(kept: Kept) -> bool:
    """What the checker says of the index."""
    stores = Stores(kept.dsn, kept.cluster.addresses)
    after = await stores.ledger("board")
    index = await stores.index(after.season)
    verdict = check(new_history(), [Found("board", "INCREMENT", after, after, {}, index)])
    assert verdict.invariants() <= {Invariant.CONVERGED}
    return verdict.clean


@pytest.mark.parametrize("planted", [False, True])
async def test_found_revisions_not_compared(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, *, planted: bool
) -> None:
    """A transaction that comes late takes what a later one brought away again."""
    if planted:
        _plant(monkeypatch, b"not old or revision_of(old) < revision_of(value)", b"true")
    board = await _board(kept)
    early = await kept.record(board, [submission(user, 1) for user in range(1, 51)])
    late = await kept.record(board, [submission(user, 5) for user in range(1, 51)])

    await kept.apply(late)
    await kept.apply(early)
    await kept.catch_up()

    assert await _converged(kept) is not planted


@pytest.mark.parametrize("planted", [False, True])
async def test_found_tombstones_dropped(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, *, planted: bool
) -> None:
    """Of a deleted user nothing is kept, and a transaction that comes late brings it back."""
    if planted:
        _plant(
            monkeypatch,
            b"      fields[#fields + 1] = user\n      fields[#fields + 1] = kept_of(value)\n",
            b"      if new_member then\n"
            b"        fields[#fields + 1] = user\n        fields[#fields + 1] = kept_of(value)\n"
            b"      else redis.call('HDEL', h, user) end\n",
        )
    board = await _board(kept)
    recorded = await kept.record(board, [submission(16, 1), submission(32, 1)])
    [(xid,)] = await kept.execute(
        "with gone as (update entries set state = 1, revision = revision + 1 where user_id = 16"
        " returning user_id, season_no), told as (insert into outbox (shards, season_no, user_id)"
        " select 1, array[season_no], array[user_id] from gone)"
        " select pg_current_xact_id()::text from gone"
    )
    tombstone = await kept.history.items(0, [(board.season.number, 16)])

    await kept.index.apply(int(str(xid)), tombstone)
    await kept.apply(recorded)
    await kept.catch_up()

    assert await _converged(kept) is not planted


@pytest.mark.parametrize("planted", [False, True])
async def test_found_rebuilt_without_double_writes(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, *, planted: bool
) -> None:
    """What is applied while a copy is made is not in the copy."""
    if planted:
        _plant(monkeypatch, b"      if meta[season + 2] then\n", b"      if false then\n")
    board = await _board(kept)
    await kept.apply(await kept.record(board, [submission(16, 1)]))
    start = await kept.history.point()
    season = board.season.number

    await kept.keeping.begin(season, 0, token="copy", start=start)
    chunk = await kept.history.load(season, 0, after_user_id=0, limit=100)
    await kept.apply(await kept.record(board, [submission(16, 1), submission(32, 1)]))
    await kept.keeping.load(season, 0, token="copy", chunk=0, items=chunk.items)
    assert await kept.keeping.swap(season, 0, token="copy", chunks=1)
    await kept.catch_up()

    assert await _converged(kept) is not planted


@pytest.mark.parametrize("planted", [False, True])
async def test_found_served_half_built(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, *, planted: bool
) -> None:
    """A copy is made in place of what is read, and is read."""
    if planted:
        _plant(monkeypatch, b"state ~= wanted or redis.call('ZCARD', z) ~= live + 1", b"state == 9")
    board = await _board(kept)
    await kept.apply(await kept.record(board, [submission(user, user) for user in range(1, 101)]))
    season, start = board.season.number, await kept.history.point()
    if planted:
        monkeypatch.setattr(keeping, "copy_keys", season_keys)

    await kept.keeping.begin(season, 0, token="copy", start=start)
    history = new_history()
    start_s = time.monotonic()
    window = await kept.index.window(
        season, b"", above=0, below=100, within=KeyRange(), fresh=Freshness()
    )
    ordering = Ordering.of(board.spec)
    standings = [ordering.standing(key, tail) for key, tail in window.below]
    history.attempts.append(
        _read(start_s, [(rank, one.user_id, one.score) for rank, one in enumerate(standings, 1)])
    )
    after = await Stores(kept.dsn, kept.cluster.addresses).ledger("board")

    verdict = check(history, [Found("board", "INCREMENT", after, after, {}, after.keys())])

    assert (Invariant.HONEST in verdict.invariants()) is planted


def _read(start_s: float, rows: Sequence[tuple[int, int, int]], source: str = "INDEX") -> Attempt:
    """An answer of (rank, user, score) that claims to be exact."""
    return Attempt(
        call=1,
        number=1,
        kind=TOP,
        board="board",
        deadline_s=5.0,
        start_s=start_s,
        end_s=time.monotonic(),
        code="OK",
        places=tuple(Place(user, rank, rank, rank, score) for rank, user, score in rows),
        meta=Meta(source),
    )
