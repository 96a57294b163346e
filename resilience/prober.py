"""Finds out whether what is called again and again is well again, so that callers need not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from resilience.breaker import PERMITS, Breaker, Outcome
from resilience.breakers import Breakers
from resilience.errors import CircuitOpen
from resilience.overrides import Mode

_log = logging.getLogger(__name__)

_ROUND_S: Final = 1.0
_JITTER: Final = 0.2
_ALIVE_S: Final = 3.0
"""How long callers trust that somebody probes."""
_GAP_MIN_S: Final = 0.05

Probe = Callable[[], Awaitable[Outcome]]
"""A cheap read that says what it found. Goes past the breaker, and ends by itself."""


class Prober:
    """Probes, about once a second, every breaker that lets nothing through; at once when its time
    is up. One a worker.
    """

    def __init__(self, breakers: Breakers, probes: Mapping[str, Probe]) -> None:
        self._breakers = breakers
        self._probes = probes

    async def run(self) -> None:
        """Probes for ever."""
        common = self._breakers.common
        while True:
            began_s = common.clock()
            common.prober_until_s = began_s + _ALIVE_S
            self._breakers.look()
            await asyncio.gather(
                *(self._look_at(breaker) for breaker in self._breakers if breaker.shut)
            )
            self._breakers.tell()
            common.prober_until_s = common.clock() + _ALIVE_S
            await asyncio.sleep(self._pause_s())

    def _pause_s(self) -> float:
        """Until the next round, or until the first breaker may be tried again."""
        pause_s = _ROUND_S * self._breakers.common.rng.uniform(1 - _JITTER, 1 + _JITTER)
        waits = [breaker.wakes_in_s() for breaker in self._breakers]
        due_s = min((wait for wait in waits if wait), default=pause_s)
        return max(_GAP_MIN_S, min(pause_s, due_s))

    async def _look_at(self, breaker: Breaker) -> None:
        """Probes until the breaker closes or a probe does not succeed."""
        if breaker.mode is Mode.FORCED_OPEN:
            outcome, _ = await self._probe(breaker)
            breaker.show(ok=outcome is Outcome.OK)
            return
        for _ in range(PERMITS):
            try:
                epoch = breaker.admit(prober=True)
            except CircuitOpen:
                return
            outcome, took_s = Outcome.NEUTRAL, 0.0
            try:
                outcome, took_s = await self._probe(breaker)
            finally:
                breaker.settle(epoch, outcome, took_s)
            if outcome is not Outcome.OK:
                return

    async def _probe(self, breaker: Breaker) -> tuple[Outcome, float]:
        common = self._breakers.common
        began_s = common.clock()
        try:
            outcome = await self._probes[breaker.name]()
        except Exception:  # noqa: BLE001 - a bug in a probe must not end the probing
            _log.exception("a probe broke", extra={"breaker": breaker.name})
            outcome = Outcome.FAILED
        return outcome, common.net_s(common.clock() - began_s)
