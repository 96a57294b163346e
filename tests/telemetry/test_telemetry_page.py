"""docs/telemetry.md is whole: what is logged and measured stands there, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import bootstrap.tracing.metrics  # noqa: F401 - its metric is to be known
from cli.serving import breaker_measures
from server import metrics
from tests.telemetry.files import ROOT

PAGE = (ROOT / "docs" / "telemetry.md").read_text()
ROOMS = ("bootstrap", "cli", "core", "jobs", "resilience", "server", "sharding", "storage")
EVERYWHERE = {"timestamp", "level", "logger", "event", "exception"}


def _named(heading: str) -> set[str]:
    """What stands in the first column of a section's table."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    first = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return {name for cell in first for name in re.findall(r"`(\w+)`", cell)}


def _logged() -> Iterator[str]:
    """The fields that the rooms add to their lines."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.keyword) and node.arg == "extra":
                    for part in ast.walk(node.value):
                        if isinstance(part, ast.Dict):
                            yield from _texts(part.keys)
                        if isinstance(part, ast.Call):
                            yield from (word.arg for word in part.keywords if word.arg)


def _texts(keys: list[ast.expr | None]) -> Iterator[str]:
    yield from (key.value for key in keys if isinstance(key, ast.Constant))


def test_every_field_of_the_log_is_told() -> None:
    """Whoever indexes them knows which there are."""
    within_before = {"state", "opened_at_s"}
    assert set(_logged()) - within_before <= _named("The log")
    assert EVERYWHERE <= _named("The log")


def test_every_metric_is_told() -> None:
    """By the name that Prometheus has for it; none is told that does not exist."""
    breaker_measures()
    made = [*REGISTRY._collector_to_names, metrics.WORKER_ENDS, metrics.WORKER_MEMORY]
    families = [c.describe()[0] for c in made if isinstance(c, MetricWrapperBase)]
    names = {f"{f.name}_total" if f.type == "counter" else f.name for f in families}

    assert {name for name in names if name.startswith("standings_")} == _named("Metrics")


def test_pictures_exist_and_are_small() -> None:
    """One of each dashboard."""
    shown = re.findall(r"!\[[^]]*\]\((telemetry/\w+\.png)\)", PAGE)
    sizes = {picture: (ROOT / "docs" / picture).stat().st_size for picture in shown}

    assert {f"telemetry/{path.stem}.png" for path in (ROOT / "deploy/grafana").glob("*.json")} == {
        *sizes
    }
    assert max(sizes.values()) < 150_000
