"""Takes a dependency out of play, holds it in, or leaves it to its breaker again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.ports import Clock
from core.types import AuditNote
from resilience.machine import MachineFile
from resilience.overrides import Mode
from server.levers.list_breakers import ListBreakers
from server.levers.names import matching, with_parents
from server.levers.views import BreakersSet
from server.levers.writing import acknowledged, setting_of, written


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
        names = [name for name, _ in self.before(name, mode)]
        setting = setting_of(self.machine, self.clock, mode, note, ttl_ms=ttl_ms)
        generation = await written(
            lambda: self.machine.set_overrides(dict.fromkeys(names, setting))
        )
        self.publish()
        done, laggards = await acknowledged(self.machine, generation)
        return BreakersSet(self.list_breakers(names), done, laggards)

    def before(self, name: str, mode: Mode) -> Sequence[tuple[str, Mode]]:
        """The breakers that a name means where a mode is to be set, each with the mode that it has
        now. Raises UnknownBreaker.
        """
        expand = with_parents if mode is Mode.AUTO else matching
        modes = self.machine.overrides()
        return [
            (name, Mode(modes[name].kind) if name in modes else Mode.AUTO)
            for name in expand(self.machine.names, name)
        ]
