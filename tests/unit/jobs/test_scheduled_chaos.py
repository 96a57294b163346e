"""Breaking things on a schedule."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap.chaos_settings import ChaosSettings
from bootstrap.settings import apart
from cli.chaos_schedule import _command, _run, chaos_jobs
from jobs.scheduled_chaos import ScheduledChaos
from tests.fakes.held import HeldClock

DAY_MS = 86_400_000


@pytest.mark.parametrize(("age_days", "due"), [(6.9, False), (7.1, True)])
async def test_a_run_is_made_when_the_last_report_is_old(age_days: float, *, due: bool) -> None:
    """Also the first one, which no report is older than."""
    clock, runs = HeldClock(ms=1_000 * DAY_MS), []

    async def play() -> bool:
        runs.append(1)
        return True

    last_ms = int(clock.ms - age_days * DAY_MS)
    await ScheduledChaos(7, lambda: last_ms, play, clock)()
    await ScheduledChaos(7, lambda: 0, play, clock)()

    assert len(runs) == 1 + due


@pytest.mark.parametrize(("held", "level"), [(True, logging.INFO), (False, logging.ERROR)])
async def test_how_a_run_ended_is_told(
    caplog: pytest.LogCaptureFixture, *, held: bool, level: int
) -> None:
    """An error where a promise did not hold."""
    caplog.set_level(logging.INFO)

    async def play() -> bool:
        return held

    await ScheduledChaos(7, lambda: 0, play, HeldClock(ms=1_000 * DAY_MS))()

    assert caplog.records[-1].levelno == level


async def test_the_job_is_there_where_it_is_asked_for(tmp_path: Path) -> None:
    """With the deployment and the folder that the settings name."""
    settings = ChaosSettings(every_days=7, address="a:1", admin_address="a:2", report=tmp_path)

    assert chaos_jobs(ChaosSettings()) == ()
    assert [job.name for job in chaos_jobs(settings)] == ["chaos"]
    assert _command(settings)[3:] == (
        *("cli", "chaos", "--report", str(tmp_path)),
        *("--address", "a:1", "--admin-address", "a:2"),
    )


def test_a_run_inherits_nothing_of_ours() -> None:
    """Neither stores and secrets nor the schedule, which would start a run within the run."""
    ours = {"STANDINGS_CHAOS_EVERY_DAYS": "7", "PROMETHEUS_MULTIPROC_DIR": "x", "PATH": "y"}
    command = apart(
        (sys.executable, "-c", "import os; print(sorted(os.environ))"),
        {"STANDINGS_STATE_DIRECTORY": "z"},
        ours,
    )
    told = subprocess.run(command, env=ours, capture_output=True, text=True, check=True).stdout

    assert "STANDINGS_STATE_DIRECTORY" in told
    assert not {name for name in ours if name in told} - {"PATH"}


async def test_a_run_that_ends_badly_has_not_held() -> None:
    """By the exit code of its process."""
    assert await _run((sys.executable, "-c", "pass"))
    assert not await _run((sys.executable, "-c", "raise SystemExit(1)"))
