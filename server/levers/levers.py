"""All levers of a worker, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.ports import Clock
from resilience.machine import MachineFile
from server.levers.list_breakers import ListBreakers
from server.levers.manage_faults import ManageFaults
from server.levers.set_breaker import SetBreaker
from server.levers.watch_breakers import WatchBreakers


@dataclass(frozen=True, slots=True)
class Levers:
    """What operators can do to the machinery."""

    list_breakers: ListBreakers
    set_breaker: SetBreaker
    watch_breakers: WatchBreakers
    faults: ManageFaults

    def shard_state(self, shard: int) -> int:
        """What the breaker of this worker does with calls to a shard of the index."""
        return self.list_breakers.state_here(f"redis/shard-{shard:02}")


def levers_of(
    machine: MachineFile,
    clock: Clock,
    *,
    faults_enabled: bool,
    publish: Callable[[], None],
) -> Levers:
    """The levers of a worker. `publish` tells other machines; it must not wait."""
    list_breakers = ListBreakers(machine, clock)
    return Levers(
        list_breakers=list_breakers,
        set_breaker=SetBreaker(machine, clock, list_breakers, publish),
        watch_breakers=WatchBreakers(list_breakers),
        faults=ManageFaults(machine, clock, faults_enabled),
    )
