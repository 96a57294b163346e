"""One breaker a shard: who is asked at all, and what the answers say.

Shards are let through before they are grouped by node, and judged one by one after the exchange, so
that a node takes down its own shards and no others. While all is well that costs a comparison
before, and an addition a shard after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Final, Self, TypeVar

from resilience.breaker import BreakerRules, Common, Outcome
from resilience.breakers import Breakers
from resilience.errors import CircuitOpen
from resilience.faults import FaultKind
from sharding.keys import SHARDS
from sharding.replies import NoAnswer, NodeBusy, NodeLost, Reply, ShardRefused, Trouble, trouble_in

ResultT = TypeVar("ResultT")

_SLOW_S: Final = 0.05
_RULES: Final = BreakerRules(slow_s=_SLOW_S, calls_min=10)


def breaker_name(shard: int) -> str:
    """The name of a shard's breaker."""
    return f"redis/shard-{shard:02d}"


REDIS_BREAKERS: Final[Mapping[str, BreakerRules]] = {
    breaker_name(shard): _RULES for shard in SHARDS
}
"""The breakers of a worker's index."""


class ShardGuards:
    """The breakers of all shards."""

    def __init__(self, breakers: Breakers) -> None:
        self._breakers = breakers
        self._common = breakers.common
        self._shards = [breakers[breaker_name(shard)] for shard in SHARDS]
        self._looked_in = -1
        self._all_free = False

    @property
    def any_shut(self) -> bool:
        """Whether some shard is not asked."""
        return not self._are_all_free() and any(breaker.shut for breaker in self._shards)

    def admit(self, shards: Iterable[int], deadline: float) -> Passage:
        """Who of the shards may be asked now. Use it in a `with`, and settle it there."""
        now_s = self._common.clock()
        self._breakers.glance(now_s)
        passage = Passage(self, self._common, deadline - now_s)
        if self._are_all_free() and not self._breakers.faulty:
            passage.shards = list(shards)
        else:
            self._admit_each(passage, shards)
        self._breakers.budget.earn(len(passage.shards))
        return passage

    def patience_s(self, timeout_s: float) -> float:
        """A time limit for a call, longer while we are late ourselves."""
        return self._common.patience_s(timeout_s)

    def may_try_again(self, shard: int) -> bool:
        """Whether a lost call may be made once more; if so, it is paid from the budget."""
        if self._shards[shard].shut:
            return False
        paid = self._breakers.budget.spend()
        self._common.observer.retried(breaker_name(shard), denied=not paid)
        return paid

    def renew(self, shard: int) -> None:
        """Says that a shard is somewhere else now."""
        self._shards[shard].renew()

    def settle(self, passage: Passage, outcomes: Mapping[int, Outcome]) -> None:
        """Notes how a call ended: OK, and not slow, for all shards that are not named."""
        second = int(self._common.clock())
        unchanged = passage.epoch == self._common.epoch and self._are_all_free()
        if unchanged and not outcomes and not passage.took_s:
            for shard in passage.admitted:
                self._shards[shard].note_ok(second)
            return
        for shard in passage.admitted:
            breaker = self._shards[shard]
            if (
                shard in outcomes
                or shard in passage.took_s
                or not breaker.free
                or passage.epoch < breaker.changed_in
            ):
                outcome = outcomes.get(shard, Outcome.OK)
                breaker.settle(passage.epoch, outcome, passage.took_s.get(shard, 0.0))
            else:
                breaker.note_ok(second)

    async def through(
        self, passage: Passage, deadline: float, call: Callable[[], Awaitable[ResultT]]
    ) -> ResultT:
        """What the call to the shards of a passage gives, with what faults do to it that are set
        for them: they may take shards out before it, or hold it up.
        """
        if not passage.faulty:
            return await call()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        delay_s = self._suffer(passage)
        await asyncio.sleep(min(delay_s, deadline - began_s))
        result = await call()
        if passage.stuck:
            await asyncio.sleep(deadline - loop.time())
        return result

    def _suffer(self, passage: Passage) -> float:
        """Does what faults say; returns by how much the call is held up."""
        delay_s = 0.0
        for shard in list(passage.shards):
            fault = self._shards[shard].fault
            if fault is None or self._common.rng.random() >= fault.probability:
                continue
            if fault.kind is FaultKind.LATENCY:
                passage.took_s[shard] = fault.latency_ms / 1000
                delay_s = max(delay_s, fault.latency_ms / 1000)
                continue
            passage.fail(shard)
            passage.stuck |= fault.kind is FaultKind.TIMEOUT
        return delay_s

    def _are_all_free(self) -> bool:
        epoch = self._common.epoch
        if epoch != self._looked_in:
            self._looked_in = epoch
            self._all_free = all(breaker.free for breaker in self._shards)
        return self._all_free

    def _admit_each(self, passage: Passage, shards: Iterable[int]) -> None:
        for shard in shards:
            breaker = self._shards[shard]
            passage.faulty |= breaker.fault is not None
            if breaker.free:
                passage.shards.append(shard)
                continue
            try:
                # One that becomes half-open begins an epoch, which this call belongs to.
                passage.epoch = breaker.admit()
            except CircuitOpen as refusal:
                passage.refused[shard] = ShardRefused(refusal.retry_after_s)
                continue
            passage.shards.append(shard)


class Passage:
    """One call's way through the breakers.

    `shards`: who is to be asked; `refused`: what the others are answered. `took_s`: how long it
    took those whose node was slow. `faulty`: some have a fault; `stuck`: one that never answers.
    """

    __slots__ = (
        "_common",
        "_guards",
        "_settled",
        "_timeout_s",
        "epoch",
        "faulty",
        "refused",
        "shards",
        "stuck",
        "took_s",
    )

    def __init__(self, guards: ShardGuards, common: Common, timeout_s: float) -> None:
        self.epoch = common.epoch
        self.shards: list[int] = []
        self.refused: dict[int, Reply] = {}
        self.took_s: dict[int, float] = {}
        self.faulty = False
        self.stuck = False
        self._guards = guards
        self._common = common
        self._timeout_s = timeout_s
        self._settled = False

    @property
    def injected(self) -> list[int]:
        """Those that a fault was injected into."""
        return [s for s, reply in self.refused.items() if not isinstance(reply, ShardRefused)]

    @property
    def admitted(self) -> list[int]:
        """All whose end is to be noted."""
        return self.shards + self.injected if self.refused else self.shards

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Who goes without an answer says nothing of the shards."""
        if not self._settled:
            self._guards.settle(self, dict.fromkeys(self.admitted, Outcome.NEUTRAL))

    def took(self, shards: Iterable[int], took_s: float) -> None:
        """Notes how long a node took to answer for some shards."""
        if took_s > _SLOW_S and (took_s := self._common.net_s(took_s)) > _SLOW_S:
            for shard in shards:
                self.took_s[shard] = self.took_s.get(shard, 0.0) + took_s

    def fail(self, shard: int) -> None:
        """Takes a shard out: it is not asked, and has failed."""
        self.shards.remove(shard)
        self.refused[shard] = NodeLost("a fault was injected")

    def settle(self, replies: Mapping[int, Reply]) -> None:
        """Notes what shards replied; those that are not named have answered."""
        outcomes = {
            shard: self._outcome(reply)
            for shard, reply in replies.items()
            if isinstance(reply, Exception)
        }
        if self.faulty:
            outcomes |= dict.fromkeys(self.injected, Outcome.LOST)
        self._settled = True
        self._guards.settle(self, outcomes)

    def _outcome(self, reply: Reply) -> Outcome:
        if isinstance(reply, NodeBusy):
            return Outcome.NEUTRAL
        if isinstance(reply, NoAnswer) and self._common.own_fault(self._timeout_s):
            return Outcome.NEUTRAL
        match trouble_in(reply):
            case None:
                return Outcome.OK
            case Trouble.LOST:
                return Outcome.LOST
            case Trouble.MOVED | Trouble.ASK | Trouble.TRY_AGAIN:
                return Outcome.NEUTRAL
        return Outcome.FAILED
