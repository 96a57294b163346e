"""Whether a failed call is tried again, and when. Pure: waits for nothing, sends nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Final

from grpc import StatusCode

from standings_client._environment import Environment
from standings_client.errors import StandingsError

# A server that drains sends CANCELLED for what it did not finish. A cancel of the caller's own
# never comes here: it is raised as something else.
_RETRIED: Final = frozenset({StatusCode.UNAVAILABLE, StatusCode.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how soon a failed call is tried again.

    `attempt_count_max` counts the first attempt too. Before attempt n + 1 the client waits a
    random span up to `backoff_first_s` * 2^(n-1), at most `backoff_max_s`, unless the server says
    how long. Retries spend from a budget that holds `budget_retry_count` at most and regains
    `budget_share` with each call and `budget_per_s` with each second, so that an outage is met
    with little more than the calls themselves. Source: gRFC A6; Google SRE book, chapter 21.
    """

    attempt_count_max: int = 4
    backoff_first_s: float = 0.05
    backoff_max_s: float = 1.0
    budget_share: float = 0.1
    budget_per_s: float = 1.0
    budget_retry_count: int = 10

    def backoff_s(self, attempt: int, uniform: Callable[[float, float], float]) -> float:
        """The wait after attempt `attempt` (1-based), in seconds."""
        # Bounded, since 2.0 ** 1024 does not exist and a stream may try that often.
        doublings = min(attempt - 1, 32)
        return uniform(0.0, min(self.backoff_max_s, self.backoff_first_s * 2.0**doublings))

    def delay_s(
        self, error: StandingsError, attempt: int, uniform: Callable[[float, float], float]
    ) -> float | None:
        """Seconds to wait after an error by its kind alone; None: not to be tried again."""
        if error.retry_refused:
            return None
        if error.code in _RETRIED:
            told = error.retry_after_s
            return self.backoff_s(attempt, uniform) if told is None else told
        if error.code is StatusCode.RESOURCE_EXHAUSTED:
            return error.retry_after_s
        return None

    def decide(
        self,
        error: StandingsError,
        attempt: int,
        remaining_s: float,
        uniform: Callable[[float, float], float],
    ) -> float | None:
        """Seconds to wait before the next attempt of a call; None: the error is its end.

        `attempt` is how many were made; a wait that would use up `remaining_s` is not begun.
        """
        if attempt >= self.attempt_count_max:
            return None
        delay_s = self.delay_s(error, attempt, uniform)
        return None if delay_s is None or delay_s >= remaining_s else delay_s


class RetryBudget:
    """What the retries of one client may cost together; see RetryPolicy. From any thread."""

    def __init__(self, policy: RetryPolicy, monotonic_s: Callable[[], float]) -> None:
        self._policy = policy
        self._monotonic_s = monotonic_s
        self._lock = Lock()
        self._tokens = float(policy.budget_retry_count)
        self._refilled_at_s = monotonic_s()

    def note_call(self) -> None:
        """A call begins: a share of a retry is earned."""
        with self._lock:
            self._add(self._policy.budget_share)

    def take(self) -> bool:
        """Whether a retry may be made; if so, it is paid."""
        with self._lock:
            now_s = self._monotonic_s()
            self._add((now_s - self._refilled_at_s) * self._policy.budget_per_s)
            self._refilled_at_s = now_s
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True

    def _add(self, tokens: float) -> None:
        self._tokens = min(self._tokens + tokens, float(self._policy.budget_retry_count))


class Attempts:
    """The attempts of one call: how many were made, how much of its time is left."""

    def __init__(
        self, policy: RetryPolicy, budget: RetryBudget, environment: Environment, timeout_s: float
    ) -> None:
        self._policy = policy
        self._budget = budget
        self._environment = environment
        self._end_s = environment.monotonic_s() + timeout_s
        self.count = 0
        self.delay_s = 0.0

    def begin(self) -> float:
        """Counts an attempt; its deadline in seconds is all that is left of the call's time."""
        self.count += 1
        return self._remaining_s()

    def again(self, error: BaseException) -> bool:
        """Whether one more attempt is due after this error; `delay_s` then says when."""
        if not isinstance(error, StandingsError):
            return False
        delay_s = self._policy.decide(
            error, self.count, self._remaining_s(), self._environment.uniform
        )
        if delay_s is None or not self._budget.take():
            return False
        self.delay_s = delay_s
        return True

    def _remaining_s(self) -> float:
        return self._end_s - self._environment.monotonic_s()
