"""What `standings doctor` looks at, and how it says it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import typer

from bootstrap.container import postgres_dsn
from bootstrap.embedded.binaries import find_postgres, find_redis, server_version
from bootstrap.embedded.errors import BinaryMissing
from bootstrap.probe import Report, probe_pooler, probe_postgres, probe_redis
from bootstrap.replica_probe import probe_replicas
from bootstrap.settings import EmbeddedSettings, Settings, SettingsInvalid


async def examine() -> bool:
    """Prints a line for each server, and lines for what is wrong with it; whether all is well."""
    healthy = True
    for report in await _reports():
        healthy = healthy and not report.findings
        for line in _lines(report):
            typer.echo(line)
    return healthy


async def _reports() -> Sequence[Report]:
    try:
        settings = Settings.load()
    except SettingsInvalid as error:
        report = Report("settings")
        report.add(str(error), "bootstrap/settings.py has them all")
        return [report]
    reports = []
    if settings.postgres.dsn is None:
        reports.append(_embedded_postgres(settings.embedded))
    else:
        dsn = postgres_dsn(settings, direct=True)
        reports.append(await probe_postgres(dsn))
        replicas = [one.get_secret_value() for one in settings.postgres.replica_dsns]
        reports.extend(await probe_replicas(dsn, replicas))
    if settings.postgres.transaction_pooler:
        reports.extend(await probe_pooler(settings.postgres))
    if settings.redis.nodes:
        reports.extend(await probe_redis(settings.redis))
    else:
        reports.append(_embedded_redis(settings.embedded))
    if (settings.postgres.dsn is None) == bool(settings.redis.nodes):
        report = Report("settings")
        report.add(
            "only one of the two stores is named",
            "set STANDINGS_POSTGRES_DSN and STANDINGS_REDIS_NODES, or neither",
        )
        reports.append(report)
    return reports


def _embedded_postgres(settings: EmbeddedSettings) -> Report:
    report = Report("PostgreSQL, embedded")
    try:
        folder = find_postgres(setting=settings.postgres_bin)
    except BinaryMissing as error:
        report.add("no programs", str(error))
    else:
        report.version = f"{_dotted(server_version(folder / 'postgres'))} in {folder}"
    return report


def _embedded_redis(settings: EmbeddedSettings) -> Report:
    report = Report("Redis, embedded")
    try:
        program = find_redis(setting=settings.redis_binary)
    except BinaryMissing as error:
        report.add("no program", str(error))
    else:
        report.version = f"{_dotted(server_version(program))} as {program}"
    return report


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version)) or "of unknown version"


def _lines(report: Report) -> Iterator[str]:
    yield f"{'FAIL' if report.findings else 'ok  '}  {report.name}  {report.version}".rstrip()
    for finding in report.findings:
        for text, lead in ((finding.problem, "      "), (finding.remedy, "      -> ")):
            yield lead + text.replace("\n", "\n" + " " * len(lead))
