"""Takes a dependency out of play, holds it in, or leaves it to its breaker again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from core.ports import Clock
from core.types import AuditNote
from resilience.machine import MachineFile
from resilience.overrides import Mode
from server.levers.list_breakers import ListBreakers
from server.levers.names import matching, with_parents
from server.levers.views import BreakersSet
from server.levers.writing import acknowledged, setting_of, written

_log = logging.getLogger("server.audit")


@dataclass(frozen=True, slots=True)
class SetBreaker:
    """Answers SetBreaker. `publish` tells other machines some time later; it must not wait."""

    machine: MachineFile
    clock: Clock
    list_breakers: ListBreakers
    publish: Callable[[], None]

    async def __call__(self, name: str, mode: Mode, note: AuditNote, *, ttl_ms: int) -> BreakersSet:
        """Sets all breakers that the name means. Raises UnknownBreaker, LeversBusy.

        Waits until every worker acts on it, for a second at most.
        """
        expand = with_parents if mode is Mode.AUTO else matching
        names = expand(self.machine.names, name)
        modes = self.machine.overrides()
        # Before the effect: who finds one without a line must not have to guess.
        _log.warning(
            "operator set a breaker",
            extra={
                "breaker": name,
                "mode": mode.name,
                "before": {
                    name: Mode(modes[name].kind).name if name in modes else Mode.AUTO.name
                    for name in names
                },
                "ttl_s": ttl_ms / 1000,
                "actor": note.actor,
                "reason": note.reason,
                "request_id": note.request_id,
            },
        )
        setting = setting_of(self.machine, self.clock, mode, note, ttl_ms=ttl_ms)
        generation = await written(
            lambda: self.machine.set_overrides(dict.fromkeys(names, setting))
        )
        self.publish()
        done, laggards = await acknowledged(self.machine, generation)
        return BreakersSet(self.list_breakers(names), done, laggards)
