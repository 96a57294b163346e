"""A server as a child process: its log, its signals and its end.

Nothing here is bound to an event loop, so that a child may be started in one loop and stopped in
another. The kernel counts the *thread* that starts a child as its parent: start children from a
thread that lives as long as they should.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootstrap.embedded.waiting import until

_TRAMPOLINE: Final = Path(__file__).with_name("trampoline.py")
LOG_TAIL_LINES: Final = 12
KILL_TIMEOUT_S: Final = 10.0
"""SIGKILL is not refused; a process that stays longer hangs in the kernel (a dead disk)."""


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a server. `identity` is a word of trampoline.py; `death_signal` is what the
    server gets when this process dies.
    """

    arguments: Sequence[str]
    log: Path
    death_signal: signal.Signals
    identity: str = "same"


class Child:
    """A running server process."""

    def __init__(self, command: Command) -> None:
        self._log = command.log
        with command.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - programs found by binaries.py
                [
                    *(sys.executable, "-I", "-S", str(_TRAMPOLINE)),
                    *(command.identity, str(int(command.death_signal)), str(os.getpid())),
                    *command.arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=command.log.parent,
                # Ctrl-C in a terminal goes to a whole session; servers are stopped in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id; the trampoline's own, since it becomes the server."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; else its exit code, or minus the signal that ended it."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        """Whether the process still exists; a frozen one does."""
        return self._process.poll() is None

    def log_tail(self) -> str:
        """The last lines of the log, for error messages."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def send(self, signal_number: signal.Signals) -> None:
        """Signals the process; nothing happens if it is gone."""
        self._process.send_signal(signal_number)

    def freeze(self) -> None:
        """Stops the process and its own children in their tracks; connections stay open."""
        for pid in _family(self.pid):
            _signal_quietly(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets a frozen process and its own children go on."""
        for pid in _family(self.pid):
            _signal_quietly(pid, signal.SIGCONT)

    async def ended(self, *, timeout_s: float) -> bool:
        """Waits for the end of the process; False if it still runs after the time."""

        async def is_gone() -> bool:
            return not self.running

        return await until(is_gone, timeout_s=timeout_s)

    async def kill(self) -> None:
        """SIGKILL, and waits until the process is gone. Works on a frozen one."""
        self.send(signal.SIGKILL)
        await self.ended(timeout_s=KILL_TIMEOUT_S)

    async def stop(self, signal_number: signal.Signals, *, timeout_s: float) -> None:
        """Asks with a signal, then kills what has not ended in time."""
        self.thaw()
        self.send(signal_number)
        if not await self.ended(timeout_s=timeout_s):
            await self.kill()


def _family(pid: int) -> list[int]:
    """The process and its descendants, parents first; the process alone where there is no /proc.

    PostgreSQL's backends are in sessions of their own, so no process group holds them together.
    """
    children_of: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it ended between the two looks
        # "pid (name) state parent ...": the name may hold blanks and parentheses.
        parent = int(text.rpartition(")")[2].split()[1])
        children_of.setdefault(parent, []).append(int(stat.parent.name))
    family = [pid]
    for member in family:
        family.extend(children_of.get(member, []))
    return family


def _signal_quietly(pid: int, signal_number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)
