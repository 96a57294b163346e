"""A watch over the wire: the stream, polls in its place, the way back, and leaving early."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
from grpc import StatusCode

from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2
from standings_client import (
    BoardNotFound,
    RankMode,
    StandingsError,
    Unavailable,
    WatchEvent,
    WatchOptions,
)
from standings_client._watch import Watch
from tests.unit.clients.faces import Either, FakeTime, Watching
from tests.unit.clients.fake_server import Fake, Tap, refuse

pytestmark = pytest.mark.timeout(30)


def entry(user_id: int, rank: int, score: int = 0, **fields: Any) -> Any:
    """One entry of the contract."""
    return types_pb2.Entry(user_id=user_id, rank=rank, score=score, **fields)


def told(event: WatchEvent, *entries: Any, season: str = "s1", **fields: Any) -> Any:
    """A message of the stream."""
    meta = types_pb2.ReadMeta(season_id=season)
    return pb.WatchEntriesResponse(event=int(event), entries=entries, meta=meta, **fields)


def snapshot(*entries: Any, token: str = "t1", season: str = "s1") -> Any:
    """A message with all entries."""
    return told(WatchEvent.SNAPSHOT, *entries, resume_token=token, season=season)


def page(*entries: Any, season: str = "s1") -> Any:
    """The answer to a poll."""
    return pb.ListEntriesResponse(entries=entries, meta=types_pb2.ReadMeta(season_id=season))


def users(entries: Any) -> Any:
    """Who, in order."""
    return [one.user_id for one in entries]


def tokens(fake: Fake) -> Any:
    """The resume tokens with which streams were opened."""
    return [request.resume_token for request in fake.asked["WatchEntries"]]


async def over(tap: Tap) -> bool:
    """Whether the server's side of the stream ends."""
    return await asyncio.to_thread(tap.ended.wait, 10)


async def test_the_question_goes_out_as_asked(client: Either, fake: Fake) -> None:
    """Of the read, only how ranks are numbered and the season are said."""
    async with Watching(
        client,
        "board",
        top_count=3,
        min_interval=timedelta(milliseconds=250),
        rank_mode=RankMode.COMPETITION,
        season_id="s1",
    ) as watch:
        await watch.next()

    expected = pb.WatchEntriesRequest(board_id="board", top_count=3)
    expected.min_interval.FromMilliseconds(250)
    expected.options.rank_mode = types_pb2.RANK_MODE_COMPETITION
    expected.options.season_id = "s1"
    assert fake.asked["WatchEntries"] == [expected]


@pytest.mark.parametrize("question", [{}, {"top_count": 3, "user_ids": [7]}], ids=str)
async def test_nothing_or_both_is_refused_at_once(client: Either, question: Any) -> None:
    """Exactly one of both, said before the first update is asked for."""
    with pytest.raises(ValueError, match="exactly one"):
        Watching(client, "board", **question)


async def test_a_snapshot_and_then_changes(client: Either, fake: Fake) -> None:
    """Every update has the whole state, and what is different."""
    tap = Tap(snapshot(entry(1, 1, 30), entry(2, 2, 20), entry(3, 3, 10)))
    fake.tell_watch(tap)
    async with Watching(client, "board", top_count=3) as watch:
        first = await watch.next()
        changed = [entry(4, 2, 25), entry(2, 3, 20)]
        tap.say(told(WatchEvent.CHANGES, *changed, removed_user_ids=[3]))
        second = await watch.next()

    assert (first.event, users(first.entries)) == (WatchEvent.SNAPSHOT, [1, 2, 3])
    assert (first.changed, first.removed_user_ids) == (first.entries, ())
    assert (second.event, users(second.entries)) == (WatchEvent.CHANGES, [1, 4, 2])
    assert (users(second.changed), second.removed_user_ids) == ([4, 2], (3,))
    assert (second.streaming, second.gap, second.meta.season_id) == (True, False, "s1")


async def test_an_empty_board_is_told_too(client: Either, fake: Fake) -> None:
    """The first update comes in any case."""
    fake.tell_watch(Tap(snapshot()))
    async with Watching(client, "board", top_count=3) as watch:
        update = await watch.next()

    assert (update.entries, update.event) == ((), WatchEvent.SNAPSHOT)


@pytest.mark.parametrize("asked", [True, False])
async def test_heartbeats_come_where_asked_for(client: Either, fake: Fake, asked: Any) -> None:
    """Else they only keep the meta fresh."""
    beat = told(WatchEvent.HEARTBEAT, season="s1")
    beat.meta.entry_count = 9
    tap = Tap(snapshot(entry(1, 1)))
    fake.tell_watch(tap)
    async with Watching(client, "board", top_count=3, heartbeats=asked) as watch:
        await watch.next()
        tap.say(beat)
        if asked:
            assert (await watch.next()).event is WatchEvent.HEARTBEAT
        tap.say(told(WatchEvent.CHANGES, entry(2, 2)))
        update = await watch.next()

    assert (update.event, users(update.changed)) == (WatchEvent.CHANGES, [2])


async def test_a_gap_is_told_with_its_snapshot(client: Either, fake: Fake) -> None:
    """Also where the state is the same as before."""
    tap = Tap(snapshot(entry(1, 1)))
    fake.tell_watch(tap)
    async with Watching(client, "board", top_count=3) as watch:
        await watch.next()
        tap.say(told(WatchEvent.GAP), snapshot(entry(1, 1)))
        update = await watch.next()

    assert (update.gap, update.changed, users(update.entries)) == (True, (), [1])


async def test_a_new_season_replaces_the_old_one(client: Either, fake: Fake) -> None:
    """The change is told together with the snapshot of the new season."""
    tap = Tap(snapshot(entry(1, 1), entry(2, 2)))
    fake.tell_watch(tap)
    async with Watching(client, "board", top_count=3) as watch:
        await watch.next()
        tap.say(told(WatchEvent.SEASON_CHANGE, season="s2"), snapshot(entry(3, 1), season="s2"))
        update = await watch.next()

    assert (update.event, update.meta.season_id) == (WatchEvent.SEASON_CHANGE, "s2")
    assert (users(update.entries), update.removed_user_ids) == ([3], (1, 2))


async def test_a_named_season_ends_the_watch(client: Either, fake: Fake) -> None:
    """The last update names the next season and keeps the entries of this one."""
    tap = Tap(snapshot(entry(1, 1)), told(WatchEvent.SEASON_CHANGE, season="s2"))
    fake.tell_watch(tap)
    async with Watching(client, "board", top_count=3, season_id="s1") as watch:
        updates = [await watch.next()]
        while updates[-1] is not None:
            updates.append(await watch.next())

    last = updates[-2]
    assert (last.event, users(last.entries)) == (WatchEvent.SEASON_CHANGE, [1])
    assert last.meta.season_id == "s2"
    assert await over(tap)


async def test_a_named_season_that_ended_unseen_ends_the_watch_too(
    client: Either, fake: Fake
) -> None:
    """The stream was away, and now nobody knows the season any more."""
    tap = Tap(snapshot(entry(1, 1)), refuse(StatusCode.UNAVAILABLE))
    fake.tell_watch(tap)
    fake.tell("ListEntries", refuse(StatusCode.NOT_FOUND, "SEASON_NOT_FOUND"))
    async with Watching(client, "board", top_count=3, season_id="s1") as watch:
        updates = [await watch.next(), await watch.next()]

    assert (updates[0].event, updates[1]) == (WatchEvent.SNAPSHOT, None)


@pytest.mark.parametrize(
    "code",
    [
        StatusCode.UNAVAILABLE,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.CANCELLED,
        StatusCode.UNKNOWN,
        StatusCode.INTERNAL,
        StatusCode.DEADLINE_EXCEEDED,
    ],
)
async def test_a_refused_stream_is_replaced_by_polls(
    client: Either, fake: Fake, fake_time: FakeTime, code: StatusCode
) -> None:
    """At once and then every 5 s; between them the stream is tried, at growing intervals."""
    opened_at_s, polled_at_s = [], []

    def refused(request: Any, context: Any) -> Any:
        opened_at_s.append(fake_time.now_s - 1_000)
        refuse(code)(request, context)

    def at_rest(request: Any, context: Any) -> Any:
        polled_at_s.append(fake_time.now_s - 1_000)
        return page(entry(1, 1, 10 if len(polled_at_s) < 3 else 11))

    fake.tell_watch(*[refused] * 9)
    fake.tell("ListEntries", *[at_rest] * 3)
    async with Watching(client, "board", top_count=3) as watch:
        first, second = await watch.next(), await watch.next()

    assert (first.streaming, first.event) == (False, WatchEvent.SNAPSHOT)
    assert (second.streaming, second.event) == (False, WatchEvent.CHANGES)
    assert [one.score for one in second.changed] == [11]
    assert polled_at_s == [0, 5, 10]
    assert opened_at_s == [0, 1, 3, 7]
    assert {request.page_size for request in fake.asked["ListEntries"]} == {3}


async def test_a_server_that_knows_no_watches_is_seldom_asked(
    client: Either, fake: Fake, fake_time: FakeTime
) -> None:
    """UNIMPLEMENTED is answered by polls, and tried again every 30 s only."""
    fake.tell_watch(*[refuse(StatusCode.UNIMPLEMENTED)] * 2)
    fake.tell("ListEntries", *[page(entry(1, 1, score)) for score in range(6)])
    async with Watching(client, "board", top_count=3) as watch:
        scores = [(await watch.next()).entries[0].score for _ in range(6)]

    assert scores == list(range(6))
    assert fake_time.sleeps == [5.0] * 5
    assert len(fake.asked["WatchEntries"]) == 1


async def test_the_servers_wish_delays_the_next_stream(
    client: Either, fake: Fake, fake_time: FakeTime
) -> None:
    """A full server says when to come back, and is not asked before."""
    fake.tell_watch(refuse(StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHES", pushback="4000"))
    fake.tell("ListEntries", page(entry(1, 1)))
    async with Watching(client, "board", top_count=3) as watch:
        first, second = await watch.next(), await watch.next()

    assert (first.streaming, second.streaming) == (False, True)
    assert fake_time.sleeps == [4.0]


async def test_a_stream_goes_on_from_its_own_state(client: Either, fake: Fake) -> None:
    """Changes after the resume token are of what the stream told, whatever polls told since."""
    first, second = Tap(snapshot(entry(1, 1, 30), entry(2, 2, 20))), Tap()
    fake.tell_watch(first, second)
    fake.tell("ListEntries", page(entry(2, 1, 40), entry(1, 2, 30)))
    async with Watching(client, "board", top_count=3) as watch:
        await watch.next()
        first.say(refuse(StatusCode.UNAVAILABLE))
        polled = await watch.next()
        # User 2 fell back to what it had: to the stream, only user 3 is new.
        second.say(told(WatchEvent.CHANGES, entry(3, 3, 10), resume_token="t2"))
        resumed = await watch.next()

    assert (polled.streaming, users(polled.entries)) == (False, [2, 1])
    assert (resumed.streaming, users(resumed.entries)) == (True, [1, 2, 3])
    assert (users(resumed.changed), resumed.gap) == ([1, 2, 3], False)
    assert tokens(fake) == ["", "t1"]


async def test_polls_go_on_until_the_stream_speaks(client: Either, fake: Fake) -> None:
    """A stream that was opened may have nothing to say for long; its first word ends the polls."""
    first, second = Tap(snapshot(entry(1, 1, 30))), Tap()
    fake.tell_watch(first, second)
    fake.tell("ListEntries", *[page(entry(1, 1, score)) for score in range(31, 200)])
    options = WatchOptions(poll_interval_s=0.05, reopen_first_s=0.01)
    async with Watching(client, "board", top_count=3, options=options) as watch:
        await watch.next()
        first.say(refuse(StatusCode.UNAVAILABLE))
        update = await watch.next()
        while not second.opened.is_set():
            update = await watch.next()
        meanwhile = await watch.next()
        second.say(told(WatchEvent.HEARTBEAT))
        while not update.streaming:
            update = await watch.next()

    assert not meanwhile.streaming
    assert [one.score for one in update.entries] == [30]
    assert update.event is WatchEvent.CHANGES


async def test_a_stale_token_is_dropped_once(client: Either, fake: Fake) -> None:
    """Refused for its token, the stream is opened without; that there may be a gap is said."""
    first, second = Tap(snapshot(entry(1, 1))), Tap(snapshot(entry(2, 1), token="t2"))
    stale = refuse(StatusCode.INVALID_ARGUMENT, violations=[("resume_token", "is not known")])
    fake.tell_watch(first, stale, second)
    fake.tell("ListEntries", page(entry(1, 1)))
    async with Watching(client, "board", top_count=3) as watch:
        await watch.next()
        first.say(refuse(StatusCode.UNAVAILABLE))
        update = await watch.next()

    assert tokens(fake) == ["", "t1", ""]
    assert (users(update.entries), update.gap, update.streaming) == ([2], True, True)


@pytest.mark.parametrize(
    "code",
    [
        StatusCode.NOT_FOUND,
        StatusCode.INVALID_ARGUMENT,
        StatusCode.PERMISSION_DENIED,
        StatusCode.UNAUTHENTICATED,
        StatusCode.FAILED_PRECONDITION,
    ],
)
async def test_what_no_poll_mends_is_raised(client: Either, fake: Fake, code: StatusCode) -> None:
    """At once, without a poll."""
    fake.tell_watch(refuse(code))
    async with Watching(client, "board", top_count=3) as watch:
        with pytest.raises(StandingsError) as caught:
            await watch.next()

    assert caught.value.code is code
    assert fake.asked["ListEntries"] == []


async def test_a_board_that_goes_ends_the_polls(client: Either, fake: Fake) -> None:
    """A poll may say it first."""
    fake.tell_watch(refuse(StatusCode.UNIMPLEMENTED))
    fake.tell("ListEntries", page(), refuse(StatusCode.NOT_FOUND, "BOARD_NOT_FOUND"))
    async with Watching(client, "board", top_count=3) as watch:
        await watch.next()
        with pytest.raises(BoardNotFound):
            await watch.next()


async def test_it_gives_up_when_nothing_answers(
    client: Either, fake: Fake, fake_time: FakeTime
) -> None:
    """After five minutes without a stream and without a poll, the last error is raised."""
    fake.tell_watch(*[refuse(StatusCode.UNAVAILABLE)] * 100)
    fake.tell("ListEntries", *[refuse(StatusCode.UNAVAILABLE, pushback="-1")] * 100)
    async with Watching(client, "board", top_count=3) as watch:
        with pytest.raises(Unavailable):
            await watch.next()

    assert 300 <= sum(fake_time.sleeps) < 306


async def test_users_are_polled_as_a_batch(client: Either, fake: Fake) -> None:
    """The same entry is equal from both: the rank within the list is left out."""
    tap = Tap(snapshot(entry(7, 3), entry(8, 5)))
    fake.tell_watch(tap, *[refuse(StatusCode.UNAVAILABLE)] * 9)
    same = pb.BatchGetEntriesResponse(
        entries=[entry(7, 3, list_rank=1), entry(8, 5, list_rank=2)],
        meta=types_pb2.ReadMeta(season_id="s1"),
    )
    gone = pb.BatchGetEntriesResponse(entries=[entry(8, 4, list_rank=1)], missing_user_ids=[7])
    gone.meta.season_id = "s1"
    fake.tell("BatchGetEntries", same, gone)
    async with Watching(client, "board", user_ids=iter([7, 8])) as watch:
        await watch.next()
        tap.say(refuse(StatusCode.UNAVAILABLE))
        update = await watch.next()

    assert len(fake.asked["BatchGetEntries"]) == 2
    assert (users(update.changed), update.removed_user_ids) == ([8], (7,))
    assert {tuple(one.user_ids) for one in fake.asked["WatchEntries"]} == {(7, 8)}


async def test_a_silent_stream_is_left(client: Either, fake: Fake) -> None:
    """Without a word for too long it counts as broken, and its call is cancelled."""
    tap = Tap(snapshot(entry(1, 1)))
    fake.tell_watch(tap)
    fake.tell("ListEntries", page(entry(2, 1)))
    options = WatchOptions(silence_s=0.2)
    async with Watching(client, "board", top_count=3, options=options) as watch:
        await watch.next()
        update = await watch.next()
        ended = await over(tap)

    assert (users(update.entries), update.streaming, ended) == ([2], False, True)


async def test_a_slow_consumer_holds_nobody_up(
    client: Either, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream is read while nobody asks, and all that came is one update."""
    received, take_in = threading.Event(), Watch.receive

    def receive(watch: Watch, message: Any) -> None:
        take_in(watch, message)
        if message.resume_token == "last":
            received.set()

    monkeypatch.setattr(Watch, "receive", receive)
    tap = Tap(snapshot(entry(1, 1, 0)))
    fake.tell_watch(tap)
    async with Watching(client, "board", top_count=3) as watch:
        await watch.next()
        tap.say(*[told(WatchEvent.CHANGES, entry(1, 1, score)) for score in range(1, 201)])
        tap.say(told(WatchEvent.CHANGES, entry(2, 2), resume_token="last"))
        caught_up = await asyncio.to_thread(received.wait, 20)
        update = await watch.next()

    assert caught_up
    assert [(one.user_id, one.score) for one in update.changed] == [(1, 200), (2, 0)]


async def test_a_fault_of_the_client_is_raised(
    client: Either, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that is nobody's error ends the watch instead of the reader alone."""

    def fail(*_: Any) -> None:
        raise KeyError

    monkeypatch.setattr("standings_client._watch.Watch.receive", fail)
    async with Watching(client, "board", top_count=3) as watch:
        with pytest.raises(KeyError):
            await watch.next()


@pytest.mark.parametrize("options", [{"silence_s": 0}, {"reopen_max_s": 0.5}], ids=str)
def test_times_that_make_no_sense_are_refused(options: Any) -> None:
    """Each above zero, the longest wait not below the first."""
    with pytest.raises(ValueError, match=r"above 0|at least"):
        WatchOptions(**options)
