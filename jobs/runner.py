"""Runs the jobs, wherever this process is elected to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import StandingsError
from core.ports import Leadership
from jobs.schedule import Job

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobRunner:
    """All jobs side by side, each in its own rhythm; one failing holds up no other."""

    leadership: Leadership
    jobs: Sequence[Job]

    async def run(self) -> None:
        """Never returns by itself; cancel it."""
        await self.leadership.lead(self._run_all)

    async def _run_all(self) -> None:
        _log.info("running the jobs here")
        async with asyncio.TaskGroup() as group:
            for job in self.jobs:
                group.create_task(self._repeat(job), name=job.name)

    async def _repeat(self, job: Job) -> None:
        while True:
            try:
                await job.run()
            except StandingsError as error:
                _log.warning("a job has to wait", extra={"job": job.name, "reason": error.reason})
            except Exception:  # noqa: BLE001  # a bug in one run must not end the job
                _log.exception("a job failed", extra={"job": job.name})
            await asyncio.sleep(job.interval_s)
