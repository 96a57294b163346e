"""What `standings chaos` does, from the first process to the report."""

from __future__ import annotations

import platform
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import cpu_count
from pathlib import Path
from typing import Final

import grpc

from bootstrap.container import postgres_dsn
from bootstrap.embedded.binaries import find_postgres, find_redis, server_version
from bootstrap.embedded.errors import EmbeddedError
from bootstrap.settings import Settings
from chaos.deployment import Deployment
from chaos.matrix import GIVEN, SHORT, Matrix, Plan, Result
from chaos.report import Report, line_of
from chaos.row import Row
from chaos.rows import levers, postgres, redis, workers
from chaos.stores import Stores
from chaos.target import Given

ROWS: Final[Sequence[Row]] = sorted(
    (*redis.ROWS, *postgres.ROWS, *workers.ROWS), key=lambda row: row.number
)


class ChaosFailed(Exception):
    """Nothing could be broken: what is to be broken did not start, or there is no such row."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows to run, how, on which transport if the deployment is our own, and where to leave
    the report: in a folder that is there.
    """

    numbers: Sequence[int]
    short: bool
    seed: int
    report: Path
    transport: str
    echo: Callable[[str], object]

    def tell(self, result: Result) -> None:
        """A row as it ends."""
        self.echo(line_of(result))
        for line in result.verdict.summary():
            self.echo(f"    {line}")


async def play(wanted: Wanted) -> bool:
    """Breaks a deployment of its own, leaves the report, and says whether all held. Raises
    ChaosFailed.
    """
    rows = _chosen(ROWS, wanted)
    plan = replace(SHORT if wanted.short else Plan(), seed=wanted.seed)
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="standings-chaos-") as folder:
        rng = random.Random(wanted.seed)  # noqa: S311 - no secret
        settings = {"STANDINGS_SERVER_TRANSPORT": wanted.transport}
        try:
            async with Deployment(Path(folder), rng, settings) as deployment:
                wanted.echo(f"everything is up after {time.monotonic() - started_s:.1f} s")
                results = await Matrix(deployment, plan, wanted.report).run(rows, wanted.tell)
        except (EmbeddedError, RuntimeError) as error:
            raise ChaosFailed(f"the deployment cannot be used: {error}") from error
        finally:
            _keep_log(Path(folder), wanted.report)
    about = _machine() | _about(plan, time.monotonic() - started_s)
    return _reported(Report(about, results), wanted)


async def play_on(address: str, admin_address: str, wanted: Wanted) -> bool:
    """The same with a deployment that somebody else runs, by its own levers. It has to allow for
    faults. Its stores are looked into where the settings name them. Raises ChaosFailed.
    """
    rows = _chosen(levers.ROWS, wanted)
    plan = replace(GIVEN, seed=wanted.seed)
    started_s = time.monotonic()
    target = Given(address, admin_address, _stores(Settings.load()))
    try:
        results = await Matrix(target, plan, wanted.report).run(rows, wanted.tell)
    except (grpc.aio.AioRpcError, RuntimeError) as error:
        told = error.details() if isinstance(error, grpc.aio.AioRpcError) else error
        raise ChaosFailed(f"{address} and {admin_address} cannot be used: {told}") from error
    seen = {"stores": "looked into" if target.stores else "not looked into: no settings name them"}
    about = {"deployment": address} | seen | _about(plan, time.monotonic() - started_s)
    return _reported(Report(about, results), wanted)


def _stores(settings: Settings) -> Stores | None:
    if settings.postgres.dsn is None or not settings.redis.nodes:
        return None
    return Stores(postgres_dsn(settings, direct=True), settings.redis.nodes)


def _reported(report: Report, wanted: Wanted) -> bool:
    report.write(wanted.report)
    held = "all held" if report.passed else "not all held"
    wanted.echo(f"{held}; see {wanted.report / 'report.md'}")
    return report.passed


def _chosen(rows: Sequence[Row], wanted: Wanted) -> Sequence[Row]:
    unknown = set(wanted.numbers) - {row.number for row in rows}
    if unknown:
        raise ChaosFailed(f"no such rows: {', '.join(map(str, sorted(unknown)))}")
    if wanted.numbers:
        return [row for row in rows if row.number in wanted.numbers]
    return [row for row in rows if row.short] if wanted.short and rows is ROWS else rows


def _keep_log(folder: Path, report: Path) -> None:
    """What the server said is worth most when something did not hold."""
    log = folder / "server.log"
    if log.exists():
        (report / "server.log").write_bytes(log.read_bytes())


def _machine() -> dict[str, str]:
    redis_version = ".".join(map(str, server_version(find_redis())))
    postgres_version = ".".join(map(str, server_version(find_postgres() / "postgres")))
    return {
        "machine": f"{cpu_count()} cores, {platform.system()} {platform.machine()}",
        "stores": f"Redis {redis_version}, PostgreSQL {postgres_version}",
    }


def _about(plan: Plan, took_s: float) -> dict[str, str]:
    return {
        "load": f"{plan.rate:.0f} calls/s on {sum(plan.users.values()):,} entries",
        "seed": str(plan.seed),
        "took": f"{took_s / 60:.1f} min",
    }
