"""What `standings chaos` does, from the first process to the report."""

from __future__ import annotations

import platform
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import cpu_count
from pathlib import Path
from typing import Final

from bootstrap.embedded.binaries import find_postgres, find_redis, server_version
from bootstrap.embedded.errors import EmbeddedError
from chaos.deployment import Deployment
from chaos.matrix import SHORT, Matrix, Plan, Result
from chaos.report import Report, line_of
from chaos.row import Row
from chaos.rows import postgres, redis, workers

ROWS: Final[Sequence[Row]] = sorted(
    (*redis.ROWS, *postgres.ROWS, *workers.ROWS), key=lambda row: row.number
)


class ChaosFailed(Exception):
    """Nothing could be broken: what is to be broken did not start, or there is no such row."""


async def play(
    numbers: Sequence[int], *, short: bool, report: Path, seed: int, echo: Callable[[str], object]
) -> bool:
    """Runs rows and leaves the report in a folder that is there; whether all held. Raises
    ChaosFailed.
    """
    rows = _chosen(numbers, short=short)
    plan = replace(SHORT if short else Plan(), seed=seed)
    started_s = time.monotonic()

    def tell(result: Result) -> None:
        echo(line_of(result))
        for line in result.verdict.summary():
            echo(f"    {line}")

    with tempfile.TemporaryDirectory(prefix="standings-chaos-") as folder:
        rng = random.Random(seed)  # noqa: S311 - no secret
        try:
            async with Deployment(Path(folder), rng) as deployment:
                echo(f"everything is up after {time.monotonic() - started_s:.1f} s")
                results = await Matrix(deployment, plan, report).run(rows, tell)
        except (EmbeddedError, RuntimeError) as error:
            raise ChaosFailed(f"the deployment cannot be used: {error}") from error
        finally:
            _keep_log(Path(folder), report)
    whole = Report(_about(plan, time.monotonic() - started_s), results)
    whole.write(report)
    echo(f"{'all held' if whole.passed else 'not all held'}; see {report / 'report.md'}")
    return whole.passed


def _chosen(numbers: Sequence[int], *, short: bool) -> Sequence[Row]:
    unknown = set(numbers) - {row.number for row in ROWS}
    if unknown:
        raise ChaosFailed(f"no such rows: {', '.join(map(str, sorted(unknown)))}")
    if numbers:
        return [row for row in ROWS if row.number in numbers]
    return [row for row in ROWS if row.short] if short else ROWS


def _keep_log(folder: Path, report: Path) -> None:
    """What the server said is worth most when something did not hold."""
    log = folder / "server.log"
    if log.exists():
        (report / "server.log").write_bytes(log.read_bytes())


def _about(plan: Plan, took_s: float) -> dict[str, str]:
    redis_version = ".".join(map(str, server_version(find_redis())))
    postgres_version = ".".join(map(str, server_version(find_postgres() / "postgres")))
    return {
        "machine": f"{cpu_count()} cores, {platform.system()} {platform.machine()}",
        "stores": f"Redis {redis_version}, PostgreSQL {postgres_version}",
        "load": f"{plan.rate:.0f} calls/s on {sum(plan.users.values()):,} entries",
        "seed": str(plan.seed),
        "took": f"{took_s / 60:.1f} min",
    }
