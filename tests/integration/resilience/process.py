"""A process that shares a machine's file with the test; run as a script.

    process.py FOLDER worker WORKER     looks at the file as a worker does
    process.py FOLDER writer            sets random modes as fast as it can
    process.py FOLDER reader            reads all modes as fast as it can

Says "ready" first; a worker then says each mode of redis/shard-00 that it comes to see, with the
time on the monotonic clock in ns. A reader says "invalid" of what is no mode.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

from resilience.breakers import Breakers
from resilience.machine import MachineBusy, MachineFile
from resilience.machine_slots import Setting
from resilience.machine_worker import MachineWorker
from resilience.overrides import Mode

NAMES = ("postgres/write", "redis", "redis/shard-00", "redis/shard-01")
NAME = "redis/shard-00"


def forced(kind: int, ttl_s: float, reason: str = "for a test") -> Setting:
    """A mode that begins now."""
    return Setting(kind, time.monotonic_ns() + int(ttl_s * 1e9), 0, 1, 7, reason, "test")


def say(*words: object) -> None:
    """One line, at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def work(file: MachineFile, slot: int) -> None:
    """Tells what it comes to see; looks for modes as often as calls would."""
    member = MachineWorker(file, Breakers({}, rng=random.Random(1)), slot)
    looking = asyncio.create_task(member.run())
    await asyncio.sleep(0)
    say("ready")
    told = Mode.AUTO
    while not looking.done():
        mode = file.mode(NAME)
        if mode is not told:
            say(mode.name, time.monotonic_ns())
            told = mode
        await asyncio.sleep(0.001)


def write(file: MachineFile) -> None:
    """Sets modes for ever."""
    say("ready")
    while True:
        settings = {name: forced(random.choice(list(Mode)), 60, "x" * 200) for name in NAMES}
        try:
            file.set_overrides(settings)
        except MachineBusy:
            continue


def read(file: MachineFile) -> None:
    """Reads modes for ever."""
    say("ready")
    while True:
        file.refresh()
        try:
            modes = [file.mode(name) for name in NAMES]
            reasons = {setting.reason for setting in file.overrides().values()}
        except Exception as error:
            say("invalid", repr(error))
            raise
        if not set(modes) <= set(Mode) or not reasons <= {"x" * 200}:
            say("invalid", modes, reasons)


if __name__ == "__main__":
    machine = MachineFile(Path(sys.argv[1]), NAMES)
    match sys.argv[2:]:
        case ["worker", slot]:
            asyncio.run(work(machine, int(slot)))
        case ["writer"]:
            write(machine)
        case ["reader"]:
            read(machine)
