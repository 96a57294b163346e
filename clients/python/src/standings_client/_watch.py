"""A watch without its wire: what it knows, what it tells, and what it does next.

Pure but for the clock, and for one thread at a time; the watches of `sync` and `aio` bring the
lock or the loop. A watch streams while it can. When the stream is refused or breaks, it polls, at
once and then in intervals, and tries to open the stream again in growing ones. A stream goes on
from its resume token, and so from what the stream told last, whatever polls told since: the two
are kept apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple, Unpack

from google.protobuf.duration_pb2 import Duration

from standings.v1 import ranking_service_pb2 as pb
from standings_client import _codec
from standings_client._environment import Environment
from standings_client._retry import RetryPolicy
from standings_client._standings import Entries, applied, difference
from standings_client.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SeasonNotFound,
    StandingsError,
    TooManyWatches,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from standings_client.types import ReadMeta, ReadOptions, WatchEvent, WatchQuestion, WatchUpdate

# Servers allow 256 streams a connection, and one that was left may take its place a while longer.
WATCH_COUNT_MAX: Final = 200

# Neither a later stream nor a poll would be answered otherwise. All else may pass.
_FINAL: Final = (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
# What an update says of several messages: the last of these that came.
_WEIGHTS: Final = (
    WatchEvent.UNSPECIFIED,
    WatchEvent.HEARTBEAT,
    WatchEvent.CHANGES,
    WatchEvent.SNAPSHOT,
    WatchEvent.SEASON_CHANGE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """The times of a watch, in seconds.

    Without a stream it polls every `poll_interval_s`, and opens the stream again after a random
    span up to `reopen_first_s`, which doubles up to `reopen_max_s`; a wish of the server for more
    is heeded. A stream that says nothing for `silence_s` counts as broken; servers send a
    heartbeat every 15 s. Where polls too have failed for `give_up_s`, the last error is raised.
    """

    poll_interval_s: float = 5.0
    reopen_first_s: float = 1.0
    reopen_max_s: float = 30.0
    silence_s: float = 45.0
    give_up_s: float = 300.0

    def __post_init__(self) -> None:
        if min(self.poll_interval_s, self.reopen_first_s, self.silence_s, self.give_up_s) <= 0:
            raise ValueError("the times of a watch: above 0")
        if self.reopen_max_s < self.reopen_first_s:
            raise ValueError("reopen_max_s: at least reopen_first_s")


class OpenWatches:
    """The open watches of one client, WATCH_COUNT_MAX at most.

    Has no lock: a collector may end one watch in the midst of another's `add`, on the same thread.
    """

    def __init__(self) -> None:
        self._open: set[Watch] = set()

    def add(self, watch: Watch) -> None:
        """Counts a watch until it is discarded. Raises TooManyWatches."""
        self._open.add(watch)
        if len(self._open) > WATCH_COUNT_MAX:
            self._open.discard(watch)
            raise TooManyWatches(f"at most {WATCH_COUNT_MAX} watches on one client")

    def discard(self, watch: Watch) -> None:
        """The watch is over."""
        self._open.discard(watch)


class Action(Enum):
    """What a watch does when nothing is heard for a while."""

    OPEN = auto()
    POLL = auto()
    LEAVE = auto()


class Plan(NamedTuple):
    """What to do in `delay_s` seconds unless the stream says something before."""

    action: Action
    delay_s: float


class Question:
    """What is followed, as the stream and as a poll ask for it.

    Raises ValueError unless it is exactly one of `top_count` and `user_ids`.
    """

    def __init__(self, board_id: str, **question: Unpack[WatchQuestion]) -> None:
        top_count, user_ids = question.get("top_count"), question.get("user_ids")
        if (top_count is None) == (user_ids is None):
            raise ValueError("exactly one of top_count and user_ids")
        reading = ReadOptions()
        if "rank_mode" in question:
            reading["rank_mode"] = question["rank_mode"]
        self.season_id = reading["season_id"] = question.get("season_id", "")
        min_interval = None
        if (interval := question.get("min_interval")) is not None:
            min_interval = Duration()
            min_interval.FromTimedelta(interval)
        users = tuple(user_ids or ())
        self.stream = pb.WatchEntriesRequest(
            board_id=board_id,
            top_count=top_count or 0,
            user_ids=users,
            min_interval=min_interval,
            options=_codec.read_options(reading),
        )
        self.poll: pb.ListEntriesRequest | pb.BatchGetEntriesRequest = (
            _codec.list_entries_request(board_id, top_count, "", **reading)
            if top_count is not None
            else _codec.batch_get_entries_request(board_id, users, **reading)
        )


class _State(NamedTuple):
    entries: Entries
    meta: ReadMeta
    streaming: bool


class Watch:
    """One watch: takes messages and answers in, gives updates and plans out."""

    def __init__(
        self,
        question: Question,
        options: WatchOptions,
        environment: Environment,
        *,
        heartbeats: bool,
    ) -> None:
        self._question = question
        self._options = options
        self._environment = environment
        self._heartbeats = heartbeats
        self._backoff = RetryPolicy(
            backoff_first_s=options.reopen_first_s, backoff_max_s=options.reopen_max_s
        )
        self.finished = False
        # What the caller was told, and what it is told next.
        self._shown: Entries | None = None
        self._latest: _State | None = None
        self._fresh = False
        self._event = WatchEvent.UNSPECIFIED
        self._gap = False
        self._season_id = ""
        # What the resume token stands for; None: nothing the stream can go on from.
        self._streamed: Entries | None = None
        self._token = ""
        # The stream: whether it is open, and whether it has said anything.
        self._open = False
        self._streaming = False
        self._break_count = 0
        now_s = environment.monotonic_s()
        self._opened_at_s = self._heard_at_s = now_s
        self._failing_since_s: float | None = None
        self._open_at_s = now_s
        self._poll_at_s = now_s + options.poll_interval_s
        self._polled_at_s = now_s - options.poll_interval_s

    def opened(self) -> pb.WatchEntriesRequest:
        """The request of a stream that is opened now."""
        self._open = True
        self._opened_at_s = self._heard_at_s = self._environment.monotonic_s()
        request = pb.WatchEntriesRequest()
        request.CopyFrom(self._question.stream)
        request.resume_token = self._token
        return request

    def plan(self) -> Plan:
        """What to do next, and when."""
        if not self._open:
            # On a tie the stream goes first: if it opens, no poll may be needed.
            action = Action.OPEN if self._open_at_s <= self._poll_at_s else Action.POLL
            return self._in_time(action, min(self._open_at_s, self._poll_at_s))
        silent_at_s = self._heard_at_s + self._options.silence_s
        if self._streaming or silent_at_s <= self._poll_at_s:
            return self._in_time(Action.LEAVE, silent_at_s)
        # Opened, but not heard yet: what is not told is asked for.
        return self._in_time(Action.POLL, self._poll_at_s)

    def receive(self, message: pb.WatchEntriesResponse) -> None:
        """Takes in a message of the open stream."""
        self._heard_at_s = self._environment.monotonic_s()
        self._failing_since_s = None
        self._streaming = True
        event = WatchEvent(message.event)
        match event:
            case WatchEvent.SNAPSHOT:
                self._streamed = _codec.entry_values(message.entries)
            case WatchEvent.CHANGES if self._streamed is not None:
                changed = _codec.entry_values(message.entries)
                self._streamed = applied(self._streamed, changed, message.removed_user_ids)
            case WatchEvent.HEARTBEAT:
                pass
            case WatchEvent.GAP | WatchEvent.SEASON_CHANGE:
                self._turn(event, message)
                return
            case _:
                # A newer server's word, or changes of nothing: only a sign of life.
                return
        self._token = message.resume_token or self._token
        if self._streamed is not None:
            meta = _codec.meta_value(message.meta)
            self._take_in(_State(self._streamed, meta, streaming=True), event)

    def broke(self, error: StandingsError) -> None:
        """The stream was refused or ended. Raises the error where another try cannot mend it."""
        now_s = self._environment.monotonic_s()
        self._open = self._streaming = False
        if self._drop_stale_token(error):
            self._open_at_s = now_s
            return
        if self._season_is_over(error):
            return
        self._note_failure(error)
        # A stream that is taken and dropped at once, again and again, is no good sign.
        if now_s - self._opened_at_s >= self._options.reopen_max_s:
            self._break_count = 0
        self._break_count += 1
        self._open_at_s = now_s + self._reopen_delay_s(error)
        self._poll_at_s = max(now_s, self._polled_at_s + self._options.poll_interval_s)

    def silent(self) -> Unavailable:
        """The error of a stream that says nothing."""
        return Unavailable(f"the stream said nothing for {self._options.silence_s} s")

    def polled(self, response: pb.ListEntriesResponse | pb.BatchGetEntriesResponse) -> None:
        """Takes in the answer to a poll."""
        self._polls_again()
        if self._streaming:
            # The stream spoke up meanwhile, and knows better.
            return
        self._failing_since_s = None
        for entry in response.entries:
            # The stream does not send it, and the same entry has to be equal from both.
            entry.list_rank = 0
        meta = _codec.meta_value(response.meta)
        state = _State(_codec.entry_values(response.entries), meta, streaming=False)
        event = WatchEvent.HEARTBEAT
        if self._latest is None:
            event = WatchEvent.SNAPSHOT
        elif _is_older(meta, self._latest.meta):
            state = self._latest._replace(streaming=False)
        elif meta.season_id != self._season_id:
            event = WatchEvent.SEASON_CHANGE
        elif state.entries != self._latest.entries:
            event = WatchEvent.CHANGES
        self._take_in(state, event)

    def poll_failed(self, error: StandingsError) -> None:
        """A poll failed. Raises the error where another try cannot mend it."""
        self._polls_again()
        if self._season_is_over(error):
            return
        if self._note_failure(error) >= self._options.give_up_s:
            raise error

    def take(self) -> WatchUpdate | None:
        """The next update; None: there is nothing new.

        Several messages since the last one make one update.
        """
        if not self._fresh or self._latest is None:
            return None
        self._fresh = False
        entries, meta, streaming = self._latest
        if self._event is WatchEvent.HEARTBEAT and entries != self._shown:
            # What a poll had told and the stream takes back.
            self._event = WatchEvent.CHANGES
        changed, removed = difference(self._shown or (), entries)
        update = WatchUpdate(
            entries=entries,
            changed=changed,
            removed_user_ids=removed,
            meta=meta,
            event=self._event,
            streaming=streaming,
            gap=self._gap,
        )
        turned = self._gap or self._event is WatchEvent.SEASON_CHANGE
        news = entries != self._shown or turned or self._heartbeats
        self._shown = entries
        self._event, self._gap = WatchEvent.UNSPECIFIED, False
        return update if news else None

    def _turn(self, event: WatchEvent, message: pb.WatchEntriesResponse) -> None:
        """A snapshot follows, which is told together with this; or, of a named season, the end."""
        ending = event is WatchEvent.SEASON_CHANGE and bool(self._question.season_id)
        if ending:
            meta = _codec.meta_value(message.meta)
            self._take_in(_State(self._streamed or (), meta, streaming=True), event)
            self.finished = True
            return
        self._streamed, self._token = None, ""
        self._fresh = False
        # A poll may have told of the season before.
        if event is WatchEvent.GAP or message.meta.season_id != self._season_id:
            self._note(event)

    def _take_in(self, state: _State, event: WatchEvent) -> None:
        self._latest = state
        self._season_id = state.meta.season_id
        self._fresh = True
        self._note(event)

    def _note(self, event: WatchEvent) -> None:
        if event is WatchEvent.GAP:
            self._gap = True
        else:
            self._event = max(self._event, event, key=_WEIGHTS.index)

    def _drop_stale_token(self, error: StandingsError) -> bool:
        """Whether the stream was refused for its token alone, which is then forgotten."""
        named = any(violation.field == "resume_token" for violation in error.violations)
        if not (isinstance(error, InvalidArgument) and named and self._token):
            return False
        self._streamed, self._token = None, ""
        self._note(WatchEvent.GAP)
        return True

    def _season_is_over(self, error: StandingsError) -> bool:
        """Whether a named season was there and is no more, which finishes the watch.

        There is no last update, since nobody said which season is next.
        """
        known = self._fresh or self._shown is not None
        over = isinstance(error, SeasonNotFound) and bool(self._question.season_id) and known
        self.finished = self.finished or over
        return over

    def _note_failure(self, error: StandingsError) -> float:
        """For how many seconds nothing has been answered. Raises an error that is final."""
        if isinstance(error, _FINAL):
            raise error
        now_s = self._environment.monotonic_s()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        return now_s - self._failing_since_s

    def _reopen_delay_s(self, error: StandingsError) -> float:
        if isinstance(error, Unimplemented) or error.retry_refused:
            return self._options.reopen_max_s
        delay_s = self._backoff.backoff_s(self._break_count, self._environment.uniform)
        return max(delay_s, error.retry_after_s or 0.0)

    def _polls_again(self) -> None:
        self._polled_at_s = self._environment.monotonic_s()
        self._poll_at_s = self._polled_at_s + self._options.poll_interval_s

    def _in_time(self, action: Action, at_s: float) -> Plan:
        return Plan(action, max(at_s - self._environment.monotonic_s(), 0.0))


def _is_older(polled: ReadMeta, known: ReadMeta) -> bool:
    """Whether a poll was answered with something older than is known.

    Only of an answer that says it is stale, as one from a cache does: what is read now is news,
    and two servers' clocks may disagree about when that is.
    """
    if not polled.stale or polled.as_of is None or known.as_of is None:
        return False
    return polled.as_of < known.as_of
