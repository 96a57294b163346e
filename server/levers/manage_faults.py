"""Makes calls to a dependency slow or fail, on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.ports import Clock
from core.types import AuditNote
from resilience.faults import Fault
from resilience.machine import CLEARED, MachineFile
from resilience.machine_slots import Setting
from server.errors import FaultsDisabled, UnknownBreaker
from server.levers.names import is_parent, matching
from server.levers.writing import acknowledged, setting_of, written


@dataclass(frozen=True, slots=True)
class ManageFaults:
    """Answers InjectFault, ListFaults and ClearFaults. `enabled`: whether any may be set."""

    machine: MachineFile
    clock: Clock
    enabled: bool

    async def inject(
        self, target: str, fault: Fault, note: AuditNote, *, ttl_ms: int
    ) -> Mapping[str, Setting]:
        """Sets a fault on all that the target means; returns those, by target. Raises
        FaultsDisabled, UnknownBreaker, LeversBusy.
        """
        targets = self.may_inject(target)
        setting = setting_of(
            self.machine,
            self.clock,
            fault.kind,
            note,
            ttl_ms=ttl_ms,
            probability=fault.probability,
            latency_ms=fault.latency_ms,
        )
        generation = await written(lambda: self.machine.set_faults(dict.fromkeys(targets, setting)))
        await acknowledged(self.machine, generation)
        return dict.fromkeys(targets, setting)

    def in_force(self) -> Mapping[str, Setting]:
        """All faults, by target."""
        return self.machine.faults()

    async def clear(self, target: str, note: AuditNote) -> Mapping[str, Setting]:
        """Ends those that the target means; empty: all. Returns what is left. Raises
        UnknownBreaker, LeversBusy.
        """
        targets = self.targets(target or "*")
        ended = [name for name in self.machine.faults() if name in targets]
        if ended:
            setting = setting_of(self.machine, self.clock, CLEARED, note, ttl_ms=0)
            generation = await written(
                lambda: self.machine.set_faults(dict.fromkeys(ended, setting))
            )
            await acknowledged(self.machine, generation)
        return self.machine.faults()

    def may_inject(self, target: str) -> Sequence[str]:
        """What a target means, if faults may be set. Raises FaultsDisabled, UnknownBreaker."""
        if not self.enabled:
            raise FaultsDisabled
        return self.targets(target)

    def targets(self, target: str) -> Sequence[str]:
        """What a target means; a parent has no calls of its own. Raises UnknownBreaker."""
        if is_parent(target) and target != "*":
            raise UnknownBreaker
        return matching(self.machine.names, target)
