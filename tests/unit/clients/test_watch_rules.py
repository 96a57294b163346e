"""The rules of a watch without a wire: states from changes, updates from states, what is next."""

from collections import deque
from typing import Any

import pytest
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2
from standings_client import RankMode, WatchEvent, WatchOptions
from standings_client._standings import applied, difference
from standings_client._watch import Action, Question, Watch
from standings_client.errors import ErrorDetails, FieldViolation, error_of
from tests.unit.clients.faces import FakeTime

TOP_COUNT = 4
USERS = range(1, 6)


class Board:
    """A board as the server has it: results in order of arrival, and some users hidden.

    `coarse`: two arrivals share a millisecond, and nobody comes back from hiding.
    """

    def __init__(self, mode: RankMode, *, coarse: bool) -> None:
        self.mode = mode
        self.coarse = coarse
        self.arrival = 0
        self.results = {}
        self.hidden = set()

    def change(self, kind: str, user_id: int, score: int) -> None:
        """One submission, deletion, hiding or restoration."""
        self.arrival += 1
        if kind == "submit":
            self.results[user_id] = (score, self.arrival)
        elif kind == "delete":
            self.results.pop(user_id, None)
        elif not self.coarse:
            self.hidden ^= {user_id}

    def top(self) -> Any:
        """The entries that are followed, as the contract has them."""
        order = sorted(
            (-score, arrival, user_id)
            for user_id, (score, arrival) in self.results.items()
            if user_id not in self.hidden
        )
        scores = [-negative for negative, _, _ in order]
        entries = []
        for place, (negative, arrival, user_id) in enumerate(order[:TOP_COUNT], start=1):
            shared = scores.index(-negative) + 1
            rank = shared if self.mode is RankMode.COMPETITION else place
            row = types_pb2.Entry(user_id=user_id, rank=rank, score=-negative)
            row.achieve_time.FromMilliseconds(arrival // 2 if self.coarse else arrival)
            entries.append(row)
        return entries


class Server:
    """The server's side of a watch: states by resume token, and what a stream still has to say."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.states = [[]]
        self.unsaid = deque()

    def begin(self, request: Any) -> None:
        """A stream is opened, new or from a token."""
        self.unsaid.clear()
        if request.resume_token:
            self.states.append(self.states[int(request.resume_token)])
            self.tell()
            if not self.unsaid:
                # As the contract's server does, so that a poll in between does not stand.
                self._say(WatchEvent.HEARTBEAT, (), ())
        else:
            self._say(WatchEvent.SNAPSHOT, self.board.top(), ())

    def tell(self) -> None:
        """Says what changed since the message before."""
        now, known = self.board.top(), {row.user_id: row for row in self.states[-1]}
        changed = [row for row in now if known.get(row.user_id) != row]
        gone = known.keys() - {row.user_id for row in now}
        if changed or gone:
            self._say(WatchEvent.CHANGES, changed, gone)

    def _say(self, event: WatchEvent, entries: Any, gone: Any) -> None:
        self.states.append(self.board.top())
        self.unsaid.append(
            pb.WatchEntriesResponse(
                event=int(event),
                entries=entries,
                removed_user_ids=gone,
                resume_token=str(len(self.states) - 1),
            )
        )


def failed(code: StatusCode = StatusCode.UNAVAILABLE, **details: Any) -> Any:
    """An error of the client."""
    return error_of(code, "told by the test", ErrorDetails(**details))


def watch_of(
    time: FakeTime, options: Any = None, *, heartbeats: bool = False, **question: Any
) -> Watch:
    """A watch on a fake clock."""
    asked = Question("board", **{"top_count": TOP_COUNT, **question})
    return Watch(asked, options or WatchOptions(), time.environment(), heartbeats=heartbeats)


def ids(entries: Any) -> Any:
    """Who, in order."""
    return [entry.user_id for entry in entries]


def follow(update: Any, copy: Any) -> Any:
    """A caller's own copy after an update."""
    for user_id in update.removed_user_ids:
        del copy[user_id]
    copy.update({entry.user_id: entry for entry in update.changed})
    return copy


CHANGE = st.tuples(
    st.sampled_from(["submit", "submit", "submit", "delete", "hide"]),
    st.sampled_from(USERS),
    st.integers(1, 2),
)
# Mostly changes that are told and heard at once, now and then something else in between.
ROUND = CHANGE.map(lambda change: [change, "tell", "hear", "take"])
STEPS = st.lists(
    ROUND
    | CHANGE.map(lambda change: [change])
    | st.sampled_from(["tell", "hear", "break", "poll"]).map(lambda step: [step])
).map(lambda rounds: [step for one in rounds for step in one])


@settings(max_examples=300)
@given(st.sampled_from([RankMode.ORDINAL, RankMode.COMPETITION]), st.booleans(), STEPS)
def test_whatever_happens_the_state_is_the_latest(mode: RankMode, coarse: Any, steps: Any) -> None:
    """Changes, breaks, resumptions and polls in any order: entries, order and diffs are right."""
    board = Board(mode, coarse=coarse)
    server, watch = Server(board), watch_of(FakeTime())
    server.begin(watch.opened())
    expected, copy, shown, streaming, token = None, {}, (), False, ""
    for step in [*steps, "tell", *["hear"] * (len(steps) + 2), "take"]:
        if isinstance(step, tuple):
            board.change(*step)
        elif step == "tell":
            server.tell()
        elif step == "hear" and server.unsaid:
            message = server.unsaid.popleft()
            watch.receive(message)
            token, streaming = message.resume_token, True
            expected = server.states[int(token)]
        elif step == "break":
            watch.broke(failed())
            request, streaming = watch.opened(), False
            assert request.resume_token == token
            server.begin(request)
        elif step == "poll":
            watch.polled(pb.ListEntriesResponse(entries=board.top()))
            expected = expected if streaming else board.top()
        elif step == "take" and (update := watch.take()) is not None:
            copy, shown = follow(update, copy), update.entries
            assert ids(update.entries) == ids(expected)
            assert copy == {entry.user_id: entry for entry in update.entries}

    assert ids(shown) == ids(board.top())
    assert [entry.rank for entry in shown] == [row.rank for row in board.top()]


def test_the_order_that_was_sent_is_never_touched() -> None:
    """Clocks that disagree with the order of arrival move nobody within what was sent together."""
    watch = watch_of(FakeTime())
    watch.opened()
    rows = [types_pb2.Entry(user_id=user_id, rank=1) for user_id in (1, 2, 3)]
    for row, at_ms in zip(rows, (30, 10, 20), strict=True):
        row.achieve_time.FromMilliseconds(at_ms)
    watch.receive(pb.WatchEntriesResponse(event=pb.WATCH_EVENT_SNAPSHOT, entries=rows))
    entries = watch.take().entries

    assert ids(entries) == [1, 2, 3]
    assert ids(applied(entries, (), [2])) == [1, 3]
    assert difference(entries, entries[1:]) == ((), (1,))


@pytest.mark.parametrize(
    ("at_ms", "order"),
    [(5, [3, 1, 2]), (10, [1, 3, 2]), (15, [1, 3, 2]), (20, [1, 2, 3])],
)
def test_equals_stand_by_the_time_they_got_there(at_ms: int, order: Any) -> None:
    """One who comes back from hiding has an old time; in the same millisecond who stayed leads."""
    watch = watch_of(FakeTime())
    watch.opened()
    rows = [types_pb2.Entry(user_id=user_id, rank=1) for user_id in (1, 2, 3)]
    for row, time_ms in zip(rows, (10, 20, at_ms), strict=True):
        row.achieve_time.FromMilliseconds(time_ms)
    event = pb.WATCH_EVENT_SNAPSHOT
    watch.receive(pb.WatchEntriesResponse(event=event, entries=rows[:2]))
    event = pb.WATCH_EVENT_CHANGES
    watch.receive(pb.WatchEntriesResponse(event=event, entries=rows[2:]))

    assert ids(watch.take().entries) == order


def test_several_messages_make_one_update() -> None:
    """The weightiest event, and the difference from what was shown."""
    watch = watch_of(FakeTime())
    watch.opened()
    for score in range(5):
        row = types_pb2.Entry(user_id=score % 2 + 1, rank=score % 2 + 1, score=score)
        event = pb.WATCH_EVENT_SNAPSHOT if score == 0 else pb.WATCH_EVENT_CHANGES
        watch.receive(pb.WatchEntriesResponse(event=event, entries=[row]))

    update = watch.take()

    assert (update.event, ids(update.entries)) == (WatchEvent.SNAPSHOT, [1, 2])
    assert [entry.score for entry in update.changed] == [4, 3]
    assert watch.take() is None


def test_silence_is_measured_from_the_last_word() -> None:
    """45 s without a message, a heartbeat included, and the stream is left."""
    time = FakeTime()
    watch = watch_of(time)
    watch.opened()
    watch.receive(pb.WatchEntriesResponse(event=pb.WATCH_EVENT_SNAPSHOT))
    time.now_s += 30
    watch.receive(pb.WatchEntriesResponse(event=pb.WATCH_EVENT_HEARTBEAT))
    time.now_s += 15

    assert watch.plan() == (Action.LEAVE, 30)


def test_a_stream_slow_to_begin_is_helped_by_a_poll() -> None:
    """A stream that was opened first may take a while; its silence counts all the same."""
    time = FakeTime()
    watch = watch_of(time, WatchOptions(silence_s=7))
    watch.opened()
    plans = [watch.plan()]
    time.now_s += 5
    watch.polled(pb.ListEntriesResponse())
    plans.append(watch.plan())

    assert plans == [(Action.POLL, 5), (Action.LEAVE, 2)]


def test_a_poll_that_is_late_does_not_undo_the_stream() -> None:
    """Its answer is older than what the stream said meanwhile."""
    watch = watch_of(FakeTime())
    watch.opened()
    row = types_pb2.Entry(user_id=1, rank=1)
    watch.receive(pb.WatchEntriesResponse(event=pb.WATCH_EVENT_SNAPSHOT, entries=[row]))
    watch.polled(pb.ListEntriesResponse())

    assert ids(watch.take().entries) == [1]


def test_streams_that_break_at_once_are_opened_ever_later() -> None:
    """A snapshot alone earns no trust; a stream that lasted does."""
    time, waits = FakeTime(), []
    watch = watch_of(time)
    for lasted_s in (0, 0, 0, 60, 0):
        watch.opened()
        watch.receive(pb.WatchEntriesResponse(event=pb.WATCH_EVENT_SNAPSHOT))
        time.now_s += lasted_s
        watch.broke(failed())
        before_s = time.now_s
        while (plan := watch.plan()).action is Action.POLL:
            time.now_s += plan.delay_s
            watch.polled(pb.ListEntriesResponse())
        time.now_s += plan.delay_s
        waits.append(time.now_s - before_s)

    assert waits == [1, 2, 4, 1, 2]


def test_breaks_in_a_row_do_not_poll_in_a_row() -> None:
    """A second break within the interval waits for the next poll's turn."""
    watch = watch_of(FakeTime())
    watch.opened()
    watch.broke(failed())
    first = watch.plan()
    watch.polled(pb.ListEntriesResponse())
    watch.opened()
    watch.broke(failed(retry_after_s=9.0))

    assert (first, watch.plan()) == ((Action.POLL, 0), (Action.POLL, 5))


def test_a_token_refused_is_forgotten_and_the_rest_is_raised() -> None:
    """Only the token's own refusal is mended, and only while there is a token."""
    stale = failed(
        StatusCode.INVALID_ARGUMENT, violations=(FieldViolation("resume_token", "unknown"),)
    )
    watch = watch_of(FakeTime())
    watch.opened()
    event = pb.WATCH_EVENT_SNAPSHOT
    watch.receive(pb.WatchEntriesResponse(event=event, resume_token="t1"))
    watch.broke(failed())
    assert watch.opened().resume_token == "t1"

    watch.broke(stale)

    assert watch.plan() == (Action.OPEN, 0)
    assert watch.opened().resume_token == ""
    with pytest.raises(type(stale)):
        watch.broke(stale)


def test_changes_of_nothing_are_left_alone() -> None:
    """Without a snapshot there is no state to change, and a word of tomorrow changes none."""
    watch = watch_of(FakeTime())
    watch.opened()
    row = types_pb2.Entry(user_id=1, rank=1)
    watch.receive(pb.WatchEntriesResponse(event=pb.WATCH_EVENT_CHANGES, entries=[row]))
    watch.receive(pb.WatchEntriesResponse(event=pb.WATCH_EVENT_HEARTBEAT))
    watch.receive(pb.WatchEntriesResponse(event=99, entries=[row]))

    assert watch.take() is None


def test_a_season_that_a_poll_told_is_not_told_again() -> None:
    """The stream comes back from the old season and catches up."""
    watch = watch_of(FakeTime())

    def hear(event: Any, season: str) -> None:
        meta = types_pb2.ReadMeta(season_id=season)
        watch.receive(pb.WatchEntriesResponse(event=event, meta=meta, resume_token="t"))

    watch.opened()
    hear(pb.WATCH_EVENT_SNAPSHOT, "s1")
    updates = [watch.take()]
    watch.broke(failed())
    watch.polled(pb.ListEntriesResponse(meta=types_pb2.ReadMeta(season_id="s2")))
    updates.append(watch.take())
    watch.opened()
    hear(pb.WATCH_EVENT_SEASON_CHANGE, "s2")
    hear(pb.WATCH_EVENT_SNAPSHOT, "s2")
    updates.append(watch.take())

    events = [update and update.event for update in updates]
    assert events == [WatchEvent.SNAPSHOT, WatchEvent.SEASON_CHANGE, None]


def test_what_is_about_to_be_replaced_waits_for_the_snapshot() -> None:
    """A new season is told with its own entries, never with those of the old one."""
    watch = watch_of(FakeTime())
    watch.opened()
    row = types_pb2.Entry(user_id=1, rank=1)
    watch.receive(pb.WatchEntriesResponse(event=pb.WATCH_EVENT_SNAPSHOT, entries=[row]))
    meta = types_pb2.ReadMeta(season_id="s2")
    watch.receive(pb.WatchEntriesResponse(event=pb.WATCH_EVENT_SEASON_CHANGE, meta=meta))
    between = watch.take()
    watch.receive(pb.WatchEntriesResponse(event=pb.WATCH_EVENT_SNAPSHOT, meta=meta))
    update = watch.take()

    assert between is None
    assert (update.event, update.entries) == (WatchEvent.SEASON_CHANGE, ())


def meta_at(at_s: int, *, stale: bool, season: str = "s1") -> Any:
    """What an answer says of its time."""
    meta = types_pb2.ReadMeta(season_id=season, stale=stale)
    meta.as_of.FromSeconds(at_s)
    return meta


@pytest.mark.parametrize(
    ("meta", "taken"),
    [
        (meta_at(75, stale=True), False),
        (meta_at(75, stale=True, season="s0"), False),
        (meta_at(75, stale=False), True),
        (meta_at(100, stale=True), True),
        (meta_at(105, stale=True), True),
        (types_pb2.ReadMeta(season_id="s1", stale=True), True),
    ],
    ids=["stale", "a season before", "another clock", "as old", "newer", "of no time"],
)
def test_a_stale_poll_does_not_take_the_state_back(meta: Any, taken: Any) -> None:
    """It is a sign of life, and no more; what was read now counts, whatever the clock says."""
    watch = watch_of(FakeTime(), heartbeats=True)
    watch.opened()
    rows = [types_pb2.Entry(user_id=1, rank=1, score=score) for score in (50, 40)]
    event = pb.WATCH_EVENT_SNAPSHOT
    known = meta_at(100, stale=False)
    watch.receive(pb.WatchEntriesResponse(event=event, entries=rows[:1], meta=known))
    first = watch.take()
    watch.broke(failed())
    watch.polled(pb.ListEntriesResponse(entries=rows[1:], meta=meta))
    update = watch.take()

    assert (update.event is WatchEvent.CHANGES, update.streaming) == (taken, False)
    assert [entry.score for entry in update.entries] == [40 if taken else 50]
    assert taken or (update.event, update.meta) == (WatchEvent.HEARTBEAT, first.meta)


@pytest.mark.parametrize("by_poll", [True, False])
def test_a_named_season_that_is_gone_finishes_the_watch(by_poll: Any) -> None:
    """What was not told yet is told first."""
    watch = watch_of(FakeTime(), season_id="s1")
    watch.opened()
    watch.receive(pb.WatchEntriesResponse(event=pb.WATCH_EVENT_SNAPSHOT))
    watch.broke(failed())
    watch.opened()
    gone = failed(StatusCode.NOT_FOUND, reason="SEASON_NOT_FOUND")
    (watch.poll_failed if by_poll else watch.broke)(gone)

    assert watch.finished
    assert watch.take().event is WatchEvent.SNAPSHOT


@pytest.mark.parametrize(
    ("season", "told", "reason"),
    [
        ("s1", False, "SEASON_NOT_FOUND"),
        ("", True, "SEASON_NOT_FOUND"),
        ("s1", True, "BOARD_NOT_FOUND"),
    ],
)
def test_what_was_never_there_is_raised(season: str, told: Any, reason: str) -> None:
    """Only a season that was named, and was seen, can be over."""
    watch = watch_of(FakeTime(), season_id=season)
    watch.opened()
    if told:
        watch.receive(pb.WatchEntriesResponse(event=pb.WATCH_EVENT_SNAPSHOT))
    gone = failed(StatusCode.NOT_FOUND, reason=reason)

    with pytest.raises(type(gone)):
        watch.broke(gone)
    assert not watch.finished
