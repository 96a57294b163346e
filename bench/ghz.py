"""ghz, the load generator: found or installed, run, and its report read.

Requests are given as bytes, each with its length before it. ghz makes its messages of those before
it starts its clock and sends them in turn; messages in JSON it would make one by one while it
measures, which costs it as much as the call (its runner/data.go, getMessages).
"""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.errors import BenchFailed
from bench.samples import GENERATOR, Sample

_MODULE: Final = "github.com/bojand/ghz/cmd/ghz@v0.93.0"
_MISSING: Final = (
    "ghz, which makes the load, is neither on PATH nor in {folder}. Mend it with one of\n"
    "  install Go, and run this again: it installs ghz by itself\n"
    "  download ghz from https://github.com/bojand/ghz/releases and put it on PATH"
)
_CALL_TIMEOUT_S: Final = 20
_OVERTIME_S: Final = 60.0
"""ghz needs some time for its data before a run, and for its report after it."""
CALLS_MAX: Final = 1_000_000
"""ghz keeps the time of so many calls only."""
_CONNECTIONS_MIN: Final = 8
_CONNECTIONS_MAX: Final = 16
_NANOS: Final = 1_000_000_000
_GARBAGE: Final = "400"
"""How much garbage ghz may make before it looks for it, in % of what it holds. At Go's own 100 it
takes both processors for some ms at a time, the longer the more requests it was given, of which the
product needs more than an echo: 3,614 in place of 4,142 submissions/s were seen."""


async def find_ghz(folder: Path) -> Path:
    """The program: on PATH, else in a folder, into which it is installed where Go is at hand.

    Raises BenchFailed.
    """
    found = shutil.which("ghz") or shutil.which("ghz", path=folder)
    if found:
        return Path(found)
    go = shutil.which("go")
    if go is None:
        raise BenchFailed(_MISSING.format(folder=folder))
    # Go takes no relative folder.
    target = await asyncio.to_thread(folder.absolute)
    installing = await asyncio.create_subprocess_exec(
        *("/usr/bin/env", f"GOBIN={target}", go, "install", _MODULE),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaints = await installing.communicate()
    if installing.returncode != 0:
        raise BenchFailed(f"go could not install ghz: {complaints.decode(errors='replace')}")
    return target / "ghz"


@dataclass(frozen=True, slots=True)
class Load:
    """What to put on whom. `requests` is a file, which is sent from its beginning to its end, again
    and again; `calls_max`: no more calls than that. `rate` in calls/s; 0: as fast as it goes.
    """

    address: str
    method: str
    requests: Path
    callers: int
    seconds: float
    calls_max: int = CALLS_MAX
    rate: int = 0


class Ghz:
    """The program with the contract that it speaks."""

    def __init__(self, program: Path, protoset: Path) -> None:
        self._program = program
        self._protoset = protoset

    async def run(self, load: Load) -> Sample:
        """What callers saw, each with one call at a time. Raises BenchFailed."""
        with tempfile.TemporaryDirectory(prefix="standings-ghz-") as folder:
            report = Path(folder, "report.json")
            before_s = _children_cpu_s()
            process = await asyncio.create_subprocess_exec(
                *("/usr/bin/env", f"GOGC={_GARBAGE}", str(self._program)),
                *self._arguments(load, report),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                async with asyncio.timeout(load.seconds + _OVERTIME_S):
                    _, complaints = await process.communicate()
            except TimeoutError as error:
                raise BenchFailed("ghz did not come to an end") from error
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            if process.returncode != 0:
                raise BenchFailed(f"ghz failed: {complaints.decode(errors='replace')}")
            cpu_s = _children_cpu_s() - before_s
            text = await asyncio.to_thread(report.read_bytes)
        return sample_of(json.loads(text)).with_cpu({GENERATOR: cpu_s})

    def _arguments(self, load: Load, report: Path) -> tuple[str, ...]:
        callers = min(load.callers, load.calls_max)
        return (
            "--insecure",
            f"--protoset={self._protoset}",
            f"--call={load.method}",
            f"--binary-file={load.requests}",
            f"--concurrency={callers}",
            f"--connections={connections_of(callers)}",
            f"--total={load.calls_max}",
            f"--max-duration={round(load.seconds * 1000)}ms",
            # Calls on their way at the end are waited for, not cut off and counted as errors.
            "--duration-stop=wait",
            f"--timeout={_CALL_TIMEOUT_S}s",
            f"--rps={load.rate}",
            "--format=json",
            f"--output={report}",
            load.address,
        )


def connections_of(callers: int) -> int:
    """How many connections so many callers have: the callers of a game server share theirs."""
    return min(callers, max(_CONNECTIONS_MIN, min(_CONNECTIONS_MAX, callers // 8)))


def sample_of(report: Mapping[str, Any]) -> Sample:
    """What a report of ghz says, as its format json has it."""
    statuses: Mapping[str, int] = report.get("statusCodeDistribution") or {}
    latencies: Mapping[int, float] = {
        one["percentage"]: one["latency"] / _NANOS * 1000
        for one in report.get("latencyDistribution") or ()
    }
    return Sample(
        calls=statuses.get("OK", 0),
        seconds=report["total"] / _NANOS,
        p50_ms=latencies.get(50, 0.0),
        p99_ms=latencies.get(99, 0.0),
        errors={code: count for code, count in statuses.items() if code != "OK"},
    )


def _children_cpu_s() -> float:
    """The processor time of all children of this process that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
