"""A second try: for harmless calls, while there is time, and only for few of them.

When everything fails, second tries double the load on what is failing. So they are paid for from a
budget that the first tries fill: a tenth of the calls may be made twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

ResultT = TypeVar("ResultT")

_PART: Final = 0.1
_BALANCE_MAX: Final = 200.0
"""What a quiet time saves up: one lost connection fails all that were under way on it."""
_PAUSE_MAX_S: Final = 0.02


class RetryBudget:
    """Second tries that may still be made. One budget for all the calls of a worker."""

    def __init__(self) -> None:
        self._balance = _BALANCE_MAX

    def earn(self, calls: int = 1) -> None:
        """Notes first tries."""
        self._balance = min(_BALANCE_MAX, self._balance + _PART * calls)

    def spend(self, tries: int = 1) -> bool:
        """Whether so many second tries may be made; if so, they are paid."""
        if self._balance < tries:
            return False
        self._balance -= tries
        return True


async def once_more(
    operation: Callable[[], Awaitable[ResultT]], *, after: Exception, left_s: float
) -> ResultT:
    """What a second try gives, after a short pause. Raises what the first one did where the pause
    would not end in time, or what the second one does.
    """
    retrying = AsyncRetrying(
        # A class that has to match: others would also take a cancellation for a failure.
        retry=retry_if_exception_type(type(after)),
        wait=wait_random_exponential(multiplier=_PAUSE_MAX_S, max=_PAUSE_MAX_S),
        stop=stop_after_attempt(2) | stop_before_delay(left_s),
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            if attempt.retry_state.attempt_number == 1:
                raise after
            return await operation()
    raise AssertionError  # An attempt returns or raises.
