"""What the workers of a machine share without asking anybody: one small file, mapped by all.

Operators' modes and faults stand in it, and what every worker's breakers are. It needs neither
store, outlives every worker, and is void after a reboot. Reading costs a look at one number while
nothing changes; writers take turns by a lock of the file system, which the kernel frees when one
dies.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from resilience.faults import Fault, FaultKind
from resilience.machine_layout import FILE_NAME, GENERATION_WORD, Layout, machine_of, map_file
from resilience.machine_lines import WORKERS_MAX, Lines, Reading, WorkerLine, start_of
from resilience.machine_slots import Setting, Slot
from resilience.overrides import Mode

CLEARED: Final = 0
"""The kind of a fault that somebody ended."""
_FAULT_KINDS: Final = (CLEARED, *FaultKind)
_WORD_MAX: Final = 2**64 - 1
_OPEN_WAIT_S: Final = 5.0
_WRITE_WAIT_S: Final = 0.02
"""A write takes some 50 us. Who holds the lock for longer is frozen: callers come again later."""
_ASK_AGAIN_S: Final = 0.001


class MachineBusy(Exception):
    """Another process holds the file's lock and does not let go; nothing was written."""


class MachineFile:
    """The `Overrides` and `Faults` of a machine, and what its workers say of themselves.

    Opened with the same names, and by the same version, it is the same file; any other is left
    to those that have it, and a new one takes its place.
    """

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        """Raises OSError when there is no place for it, and MachineBusy."""
        self.names = tuple(names)
        layout = Layout(self.names)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.fdopen(os.open(directory / f"{FILE_NAME}.lock", flags, 0o600), "r+b")
        try:
            with self._locked(_OPEN_WAIT_S):
                self._file = map_file(directory / FILE_NAME, layout)
        except BaseException:
            self._lock.close()
            raise
        self._words = memoryview(self._file).cast("Q")
        self.machine = machine_of(self._file)
        """Names the file, and so the machine, among others."""
        self._override_slots = self._slots(layout.overrides_at, tuple(Mode))
        self._fault_slots = self._slots(layout.faults_at, _FAULT_KINDS)
        self._lines = Lines(self._file, layout.lines_at, self.names)
        self._modes: Mapping[str, Setting] = {}
        self._faults: Mapping[str, tuple[Setting, Fault]] = {}
        self._read_at = -1
        self.refresh()

    def close(self) -> None:
        """Ends writing. Reading goes on: calls that nobody waits for may outlast the server."""
        self._lock.close()

    @property
    def generation(self) -> int:
        """Counts the changes that operators made."""
        return self._words[GENERATION_WORD]

    def mode(self, name: str) -> Mode:
        """See `Overrides.mode`."""
        if self._words[GENERATION_WORD] != self._read_at:
            self.refresh()
        setting = self._modes.get(name)
        if setting is None or not setting.in_force(time.monotonic_ns()):
            return Mode.AUTO
        return Mode(setting.kind)

    def fault(self, target: str) -> Fault | None:
        """See `Faults.fault`."""
        if self._words[GENERATION_WORD] != self._read_at:
            self.refresh()
        found = self._faults.get(target)
        if found is None or not found[0].in_force(time.monotonic_ns()):
            return None
        return found[1]

    def refresh(self) -> int:
        """Reads all that is set, whatever the generation says, and returns it: a writer that died
        before it could count its change has made it all the same.
        """
        generation = self.generation
        now_ns = time.monotonic_ns()
        self._modes = {
            name: setting
            for name, setting in self.overrides_set().items()
            if setting.kind != Mode.AUTO and setting.in_force(now_ns)
        }
        self._faults = {
            name: (setting, Fault(FaultKind(setting.kind), setting.probability, setting.latency_ms))
            for name, setting in _read(self._fault_slots).items()
            if setting.kind != CLEARED and setting.in_force(now_ns)
        }
        self._read_at = generation
        return generation

    def overrides(self) -> Mapping[str, Setting]:
        """The modes in force, by name; those that are AUTO are not there."""
        self.refresh()
        return self._modes

    def faults(self) -> Mapping[str, Setting]:
        """The faults in force, by target."""
        self.refresh()
        return {name: setting for name, (setting, _) in self._faults.items()}

    def overrides_set(self) -> Mapping[str, Setting]:
        """What was set last on each name, AUTO and what has ended included."""
        return _read(self._override_slots)

    def set_overrides(self, settings: Mapping[str, Setting]) -> int:
        """Puts modes in force as the newest of their names; returns the generation that holds
        them. Raises MachineBusy.
        """
        with self._writing():
            for name, setting in settings.items():
                slot = self._override_slots[name]
                before = slot.read()
                time_ms = setting.set_time_ms
                if before is not None:
                    time_ms = max(time_ms, before.set_time_ms + 1)
                slot.write(replace(setting, set_time_ms=time_ms))
        return self.refresh()

    def merge_overrides(self, settings: Mapping[str, Setting]) -> Sequence[str]:
        """Puts those in force that are newer than what is there, and returns their names: what
        other machines have set. Raises MachineBusy.
        """
        newer = self._newer(settings)
        if newer:
            with self._writing():
                newer = self._newer(settings)
                for name in newer:
                    self._override_slots[name].write(settings[name])
            self.refresh()
        return newer

    def set_faults(self, settings: Mapping[str, Setting]) -> int:
        """As set_overrides, for faults; CLEARED ends one."""
        with self._writing():
            for name, setting in settings.items():
                self._fault_slots[name].write(setting)
        return self.refresh()

    def claim(self, worker: int) -> int:
        """A line for this process: that of its slot, or the next free one where another live
        process has it. Raises MachineBusy, also when all lines are taken.
        """
        with self._locked(_WRITE_WAIT_S):
            taken = {line.worker for line in self.workers() if line.pid != os.getpid()}
            for offset in range(WORKERS_MAX):
                slot = (worker + offset) % WORKERS_MAX
                if slot not in taken:
                    self.say(slot, self.refresh(), {})
                    return slot
        raise MachineBusy

    def say(self, worker: int, seen: int, readings: Mapping[str, Reading]) -> None:
        """Writes the line of this process."""
        pid = os.getpid()
        started = start_of(pid) or 0
        self._lines.write(WorkerLine(worker, pid, started, seen, time.monotonic_ns(), readings))

    def leave(self, worker: int) -> None:
        """Ends the line of this process."""
        self._lines.erase(worker)

    def workers(self) -> Sequence[WorkerLine]:
        """The live workers, by slot."""
        return self._lines.live(time.monotonic_ns())

    def _slots(self, at: int, kinds: Sequence[int]) -> Mapping[str, Slot]:
        return {
            name: Slot(self._file, Layout.slot_at(at, place), kinds)
            for place, name in enumerate(self.names)
        }

    def _newer(self, settings: Mapping[str, Setting]) -> Sequence[str]:
        newer = []
        for name, setting in settings.items():
            slot = self._override_slots.get(name)
            if slot is None:
                continue
            before = slot.read()
            if before is None or setting.precedence > before.precedence:
                newer.append(name)
        return newer

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._locked(_WRITE_WAIT_S):
            try:
                yield
            finally:
                # Last, so that who sees it finds the change.
                self._words[GENERATION_WORD] = (self.generation + 1) & _WORD_MAX

    @contextmanager
    def _locked(self, wait_s: float) -> Iterator[None]:
        end_s = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end_s:
                    raise MachineBusy from None
                time.sleep(_ASK_AGAIN_S)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


def _read(slots: Mapping[str, Slot]) -> Mapping[str, Setting]:
    read = ((name, slot.read()) for name, slot in slots.items())
    return {name: setting for name, setting in read if setting is not None}
