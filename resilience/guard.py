"""Everything between a call and what it calls, in the order that matters:
retry( breaker( bulkhead( deadline( call ) ) ) ).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeVar

from resilience.breaker import Outcome
from resilience.breakers import Breakers
from resilience.bulkhead import Bulkhead
from resilience.deadline import SHORT_S, left_s, within
from resilience.errors import BulkheadFull, InjectedError
from resilience.faults import suffer
from resilience.retry import once_more

ResultT = TypeVar("ResultT")
Operation = Callable[[], Coroutine[Any, Any, ResultT]]


class Guard:
    """What calls to one dependency go through.

    `judge` says of an error what it tells about the dependency. `shielded`: calls have their time
    also when their caller goes.
    """

    def __init__(
        self,
        breakers: Breakers,
        name: str,
        *,
        judge: Callable[[Exception], Outcome],
        bulkhead: Bulkhead | None = None,
        shielded: bool = False,
    ) -> None:
        self._breakers = breakers
        self._breaker = breakers[name]
        self._judge = judge
        self._bulkhead = bulkhead
        self._shielded = shielded

    def require(self) -> None:
        """Raises CircuitOpen where a call would."""
        self._breakers.glance(self._breakers.common.clock())
        if self._breaker.shut:
            epoch = self._breaker.admit()
            self._breaker.settle(epoch, Outcome.NEUTRAL, 0)

    def patience_s(self, timeout_s: float) -> float:
        """See `Common.patience_s`."""
        return self._breakers.common.patience_s(timeout_s)

    async def call(
        self, operation: Operation[ResultT], *, timeout_s: float, idempotent: bool = False
    ) -> ResultT:
        """What the operation returns, within `timeout_s` and the caller's own deadline. Raises
        CircuitOpen, BulkheadFull, TimeoutError, InjectedError, and what it raises.

        An `idempotent` one that was lost, and not for want of time, is made a second time.
        """
        clock = self._breakers.common.clock
        end_s = clock() + left_s(self._breakers.common.patience_s(timeout_s))
        own_s = timeout_s if self._shielded else 0.0
        self._breakers.budget.earn()
        try:
            return await self._once(operation, end_s - clock(), own_s)
        except Exception as error:
            if not (idempotent and self._may_try_again(error, end_s - clock())):
                raise
            return await once_more(
                lambda: self._once(operation, end_s - clock(), own_s),
                after=error,
                left_s=end_s - clock(),
            )

    def _may_try_again(self, error: Exception, left_s: float) -> bool:
        """Whether a second try may help, and may be made."""
        if isinstance(error, TimeoutError) or self._outcome(error, left_s) is not Outcome.LOST:
            return False
        if left_s < SHORT_S or self._breaker.shut:
            return False
        paid = self._breakers.budget.spend()
        self._breakers.common.observer.retried(self._breaker.name, denied=not paid)
        return paid

    async def _once(self, operation: Operation[ResultT], timeout_s: float, own_s: float) -> ResultT:
        if timeout_s <= 0:
            # Not begun: a shielded call would go on for nobody.
            raise TimeoutError
        breaker, common = self._breaker, self._breakers.common
        began_s = common.clock()
        self._breakers.glance(began_s)
        epoch = breaker.admit()
        outcome = Outcome.NEUTRAL
        try:
            result = await self._bounded(operation, timeout_s, own_s)
            outcome = Outcome.OK
        except Exception as error:
            outcome = self._outcome(error, timeout_s)
            raise
        finally:
            # A caller who is cancelled says nothing, and gives a permit back.
            breaker.settle(epoch, outcome, common.net_s(common.clock() - began_s))
        return result

    async def _bounded(
        self, operation: Operation[ResultT], timeout_s: float, own_s: float
    ) -> ResultT:
        breaker, common = self._breaker, self._breakers.common
        end_s = common.clock() + timeout_s
        async with self._room(timeout_s):
            if breaker.fault is not None:
                await suffer(breaker.fault, breaker.name, common.rng, timeout_s=timeout_s)
            return await within(
                max(0.0, end_s - common.clock()),
                operation(),
                own_s=own_s,
                on_abandoned=common.observer.abandoned,
            )

    def _room(self, timeout_s: float) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._bulkhead is None else self._bulkhead.room(timeout_s)

    def _outcome(self, error: Exception, timeout_s: float) -> Outcome:
        if isinstance(error, BulkheadFull):
            return Outcome.NEUTRAL
        if isinstance(error, InjectedError):
            return Outcome.LOST
        if isinstance(error, TimeoutError):
            ours = self._breakers.common.own_fault(timeout_s)
            return Outcome.NEUTRAL if ours else Outcome.LOST
        return self._judge(error)
