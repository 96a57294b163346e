"""The rules of retries and of the window of a stream, without a wire."""

import random
from typing import Any
from uuid import UUID

from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from standings.v1 import ranking_service_pb2 as pb
from standings_client import Environment, RetryPolicy, StreamOptions, Submission, Unavailable
from standings_client._drafts import draft_of
from standings_client._ids import SubmissionIds
from standings_client._retry import RetryBudget
from standings_client._window import Window
from standings_client.errors import ErrorDetails, error_of
from tests.unit.clients.fake_server import acknowledged, applied, status_of

REAL = Environment()
SERVER_MS = 1_700_000_000_000
IN_FUTURE = status_of(
    StatusCode.INVALID_ARGUMENT,
    "SUBMISSION_ID_IN_FUTURE",
    metadata={"server_time_ms": str(SERVER_MS)},
)


@given(st.integers(1, 2_000), st.randoms(use_true_random=False))
def test_a_wait_is_never_longer_than_its_bound(attempt: int, chance: Any) -> None:
    """Full jitter: anything from zero to the doubled first wait, at most a second."""
    waited_s = RetryPolicy().backoff_s(attempt, chance.uniform)

    assert 0.0 <= waited_s <= min(1.0, 0.05 * 2 ** min(attempt - 1, 10))


@given(
    st.sampled_from(list(StatusCode)),
    st.none() | st.floats(0, 10),
    st.booleans(),
    st.integers(1, 10),
    st.floats(-1, 10),
)
def test_no_decision_breaks_a_bound(
    code: StatusCode,
    told_s: float | None,
    refused: Any,
    attempt: int,
    remaining_s: float,
) -> None:
    """Whatever is said, a retry fits the attempts, the time and the server's refusal."""
    details = ErrorDetails(retry_after_s=told_s, retry_refused=refused)

    delay_s = RetryPolicy().decide(
        error_of(code, "", details), attempt, remaining_s, random.uniform
    )

    if delay_s is not None:
        assert (attempt < 4, refused) == (True, False)
        assert 0.0 <= delay_s < remaining_s
        assert told_s in (None, delay_s)


@given(st.lists(st.booleans(), max_size=400))
def test_retries_stay_within_the_budget(steps: Any) -> None:
    """In one moment: no more than ten and a tenth of the calls, in any order of both."""
    budget = RetryBudget(RetryPolicy(), lambda: 0.0)
    calls = retries = 0
    for is_call in steps:
        if is_call:
            budget.note_call()
            calls += 1
        else:
            retries += budget.take()

    assert retries <= 10 + calls / 10


def test_a_quiet_client_regains_its_retries() -> None:
    """A retry comes back with each second."""
    now_s = 0.0
    budget = RetryBudget(RetryPolicy(), lambda: now_s)
    while budget.take():
        pass

    now_s = 1.0

    assert [budget.take(), budget.take()] == [True, False]


@given(st.lists(st.sampled_from(["add", "take", "acknowledge", "newest", "break"]), max_size=80))
def test_a_window_loses_nothing_and_keeps_the_order(steps: Any) -> None:
    """However answers and breaks fall, each is settled once and every stream is in order."""
    window = Window(StreamOptions(message_count_max=3), SubmissionIds(REAL.wall_ms, lambda _: 1))
    ids = SubmissionIds(REAL.wall_ms, REAL.random_bits)
    added, settled, under_way, stream = 0, [], [], []
    for step in [*steps, "break"]:
        if step == "add":
            window.add(draft_of(Submission("board", 1, added), ids), added)
            added += 1
        elif step == "take" and window.has_work():
            under_way.append(window.take())
            stream += [one.score for one in under_way[-1].submissions]
        elif step in ("acknowledge", "newest") and under_way:
            message = under_way.pop(0 if step == "acknowledge" else -1)
            settled += [promise for promise, _ in window.acknowledge(acknowledged(message))]
        elif step == "break":
            window.rewind()
            assert stream == sorted(set(stream))
            under_way, stream = [], []
    rest = [promise for promise, _ in window.fail(Unavailable("over"))]

    assert rest == sorted(rest)
    assert sorted(settled + rest) == list(range(added))
    assert len(window) == 0


class WrongClock:
    """A stream whose client makes ids an hour ahead until it learns better; the server refuses each
    of the future by itself.
    """

    def __init__(self, message_count_max: int) -> None:
        self.ids = SubmissionIds(lambda: SERVER_MS + 3_600_000, REAL.random_bits)
        self.window: Window[int] = Window(
            StreamOptions(message_count_max=message_count_max), self.ids
        )
        self.drafts: list[Any] = []
        self.count = 0
        self.answers: list[pb.StreamSubmitScoresResponse] = []
        self.arrived: list[int] = []

    def mint(self) -> None:
        """Makes a submission, with its id."""
        submission = Submission("board", 1, self.count + len(self.drafts))
        self.drafts.append(draft_of(submission, self.ids))

    def add(self) -> None:
        """Puts the oldest that was made behind the others."""
        if self.drafts:
            self.window.add(self.drafts.pop(0), self.count)
            self.count += 1

    def take(self) -> None:
        """Sends a message, if the window lets it."""
        if self.window.has_work():
            message = self.window.take()
            results = [self._judged(one) for one in message.submissions]
            answer = pb.StreamSubmitScoresResponse(sequence=message.sequence, results=results)
            self.answers.append(answer)

    def acknowledge(self) -> None:
        """The oldest answer arrives."""
        if self.answers:
            self.window.acknowledge(self.answers.pop(0))

    def correct(self) -> None:
        """Another call of the client learns the right time."""
        self.ids.correct(SERVER_MS)

    def end(self) -> None:
        """All that was made is sent and answered."""
        while self.drafts:
            self.add()
        while len(self.window):
            self.take()
            self.acknowledge()

    def _judged(self, one: pb.SubmitScoreRequest) -> pb.BatchSubmitResult:
        if UUID(one.submission_id).int >> 80 > SERVER_MS + 60_000:
            return pb.BatchSubmitResult(error=IN_FUTURE)
        self.arrived.append(one.score)
        return pb.BatchSubmitResult(response=applied(one))


@given(
    st.lists(st.sampled_from(["mint", "add", "take", "acknowledge", "correct"]), max_size=60),
    st.integers(1, 4),
)
def test_nothing_is_overtaken_while_a_wrong_clock_is_corrected(
    steps: Any, message_count_max: int
) -> None:
    """Whoever learns the right time, and when, all of a stream arrives in the order given."""
    stream = WrongClock(message_count_max)
    for step in steps:
        getattr(stream, step)()
    stream.end()

    assert stream.arrived == list(range(stream.count))


def test_a_short_acknowledgement_leaves_no_promise_open() -> None:
    """An item the server said nothing about is an error, not a wait."""
    ids = SubmissionIds(REAL.wall_ms, REAL.random_bits)
    window = Window(StreamOptions(), ids)
    window.add(draft_of(Submission("board", 1, 1), ids), "promise")
    message = window.take()

    settled = window.acknowledge(pb.StreamSubmitScoresResponse(sequence=message.sequence))

    assert [(one.promise, one.result.code) for one in settled] == [("promise", StatusCode.INTERNAL)]


def test_an_unknown_acknowledgement_settles_nothing() -> None:
    """An answer to a message that is not under way is left alone."""
    window = Window(StreamOptions(), SubmissionIds(REAL.wall_ms, REAL.random_bits))

    assert window.acknowledge(pb.StreamSubmitScoresResponse(sequence=9)) == []
