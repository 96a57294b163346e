"""The job that runs `standings chaos`, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from typing import Final

from bootstrap.chaos_settings import ChaosSettings
from bootstrap.settings import apart
from core.clock import SystemClock
from jobs.schedule import Job
from jobs.scheduled_chaos import ScheduledChaos

_LOOK_S: Final = 3600.0


def chaos_jobs(settings: ChaosSettings) -> Sequence[Job]:
    """The job, where it is asked for."""
    if not settings.every_days:
        return ()

    def last_ms() -> int:
        try:
            return int((settings.report / "report.json").stat().st_mtime * 1000)
        except OSError:
            return 0

    async def play() -> bool:
        return await _run(_command(settings))

    run = ScheduledChaos(settings.every_days, last_ms, play, SystemClock())
    return (Job("chaos", _LOOK_S, run),)


def _command(settings: ChaosSettings) -> Sequence[str]:
    where: tuple[str, ...] = ()
    if settings.address:
        where = ("--address", settings.address, "--admin-address", settings.admin_address)
    report = ("--report", str(settings.report))
    return (sys.executable, "-P", "-m", "cli", "chaos", *report, *where)


async def _run(command: Sequence[str]) -> bool:
    """Whether the command ends well; it ends with this task."""
    process = await asyncio.create_subprocess_exec(
        *apart(command), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        return await process.wait() == 0
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await asyncio.shield(process.wait())
