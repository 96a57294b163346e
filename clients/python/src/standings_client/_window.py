"""What a streaming submitter has in hand: what waits, what is under way, how long nothing came.

Pure and for one thread at a time; the submitters bring the lock or the loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from standings.v1 import ranking_service_pb2 as pb
from standings_client import _codec
from standings_client._drafts import Draft
from standings_client._environment import Environment
from standings_client._ids import SubmissionIds
from standings_client._retry import RetryPolicy
from standings_client.errors import Cancelled, ErrorDetails, Internal, StandingsError, Unavailable
from standings_client.types import SubmitResult

# The server stops reading beyond this many unacknowledged submissions, and takes this many at once.
IN_FLIGHT_COUNT_MAX: Final = 4_096
MESSAGE_COUNT_MAX: Final = 1_000

# A client that was closed under its submitter does not come back.
CLIENT_CLOSED: Final = Cancelled("the client is closed", ErrorDetails(retry_refused=True))

Promise = TypeVar("Promise")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """The bounds of a streaming submitter.

    At most `in_flight_count_max` (1 to 4,096) submissions are unanswered; a message carries up to
    `message_count_max` (1 to 1,000) of them. After `give_up_s` without any answer, what is
    unanswered fails.
    """

    in_flight_count_max: int = 2_048
    message_count_max: int = 500
    give_up_s: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.in_flight_count_max <= IN_FLIGHT_COUNT_MAX:
            raise ValueError(f"in_flight_count_max: 1 to {IN_FLIGHT_COUNT_MAX}")
        if not 1 <= self.message_count_max <= MESSAGE_COUNT_MAX:
            raise ValueError(f"message_count_max: 1 to {MESSAGE_COUNT_MAX}")


@dataclass(slots=True)
class _Pending(Generic[Promise]):
    number: int
    draft: Draft[pb.SubmitScoreRequest]
    promise: Promise
    sent_count: int = 0


class Settled(NamedTuple, Generic[Promise]):
    """A promise and what it is to be kept with."""

    promise: Promise
    result: SubmitResult | StandingsError


class Window(Generic[Promise]):
    """The unanswered submissions of one submitter, in the order they were given.

    What is under way has ids of one clock: when that is corrected, nothing more is sent before all
    of it is answered. Some of it may be refused, and what came later would overtake it.
    """

    def __init__(self, options: StreamOptions, ids: SubmissionIds) -> None:
        self._message_count_max = options.message_count_max
        self._ids = ids
        self._waiting: deque[_Pending[Promise]] = deque()
        self._in_flight: dict[int, list[_Pending[Promise]]] = {}
        self._count = 0
        self._number = 0
        self._sequence = 0
        self._epoch = ids.epoch

    def __len__(self) -> int:
        return self._count

    def add(self, draft: Draft[pb.SubmitScoreRequest], promise: Promise) -> None:
        """Puts a submission behind the others."""
        self._number += 1
        self._count += 1
        self._waiting.append(_Pending(self._number, draft, promise))

    def has_work(self) -> bool:
        """Whether `take` has something to give."""
        of_one_clock = not self._in_flight or self._epoch == self._ids.epoch
        return bool(self._waiting) and of_one_clock

    def take(self) -> pb.StreamSubmitScoresRequest:
        """The next message: all that waits, up to the bound. It is under way from here on."""
        count = min(len(self._waiting), self._message_count_max)
        taken = [self._waiting.popleft() for _ in range(count)]
        if not self._in_flight:
            self._epoch = self._ids.epoch
        for pending in taken:
            if pending.sent_count == 0:
                pending.draft.keep_up(self._ids)
            pending.sent_count += 1
        self._sequence += 1
        self._in_flight[self._sequence] = taken
        return pb.StreamSubmitScoresRequest(
            sequence=self._sequence, submissions=[pending.draft.request for pending in taken]
        )

    def acknowledge(self, response: pb.StreamSubmitScoresResponse) -> list[Settled[Promise]]:
        """What an acknowledgement settles; nothing for a message that is not under way."""
        taken = self._in_flight.pop(response.sequence, [])
        results = [_codec.item_result(item) for item in response.results[: len(taken)]]
        missing = len(taken) - len(results)
        results += [Internal("the server answered nothing for this submission")] * missing
        settled, again = [], []
        for pending, result in zip(taken, results, strict=True):
            if pending.draft.remint(result, pending.sent_count, self._ids):
                again.append(pending)
            else:
                settled.append(Settled(pending.promise, result))
        self._count -= len(settled)
        self._put_back(again)
        return settled

    def rewind(self) -> None:
        """The connection is gone: all that was under way waits again, in the order given."""
        under_way = [pending for taken in self._in_flight.values() for pending in taken]
        self._in_flight.clear()
        self._put_back(under_way)

    def fail(self, error: StandingsError) -> list[Settled[Promise]]:
        """Settles everything with an error."""
        self.rewind()
        settled: list[Settled[Promise]] = [
            Settled(pending.promise, error) for pending in self._waiting
        ]
        self._waiting.clear()
        self._count = 0
        return settled

    def _put_back(self, pending: Sequence[_Pending[Promise]]) -> None:
        if pending:
            waiting = sorted([*pending, *self._waiting], key=lambda one: one.number)
            self._waiting = deque(waiting)


class Progress:
    """How long nothing was answered, and so when to connect again and when to give up."""

    def __init__(
        self, options: StreamOptions, policy: RetryPolicy, environment: Environment
    ) -> None:
        self._give_up_s = options.give_up_s
        self._policy = policy
        self._clock: Callable[[], float] = environment.monotonic_s
        self._uniform = environment.uniform
        self._since_s = environment.monotonic_s()
        self._break_count = 0

    def made(self) -> None:
        """Something was answered, or something is wanted after nothing was."""
        self._since_s = self._clock()
        self._break_count = 0

    def patience_s(self) -> float:
        """Seconds until it is time to give up; 0 or less: it is."""
        return self._since_s + self._give_up_s - self._clock()

    def stalled(self) -> Unavailable:
        """The error of a stream on which nothing was answered for too long."""
        return Unavailable(f"no answer for {self._give_up_s} s")

    def delay_s(self, error: StandingsError) -> float | None:
        """Seconds to wait before connecting again after `error`; None: give up."""
        self._break_count += 1
        delay_s = self._policy.delay_s(error, self._break_count, self._uniform)
        return None if delay_s is None or delay_s >= self.patience_s() else delay_s


def final_error(error: StandingsError) -> StandingsError:
    """What callers see of the error that ended a stream: a drained server is not available."""
    if not isinstance(error, Cancelled):
        return error
    unavailable = Unavailable(error.message)
    unavailable.reason = error.reason
    return unavailable
