"""What stands in deploy/: dashboards, alerts, and where they lead."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
GRAFANA: Final = ROOT / "deploy" / "grafana"
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
INTERVAL: Final = "$__rate_interval"
"""What Grafana puts the range of a rate for: four times the interval of scrapes, by default."""


def dashboards() -> Mapping[str, Any]:
    """Each dashboard, by the name of its file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("*.json"))}


def queries(panel: Mapping[str, Any], interval: str) -> Sequence[tuple[str, str]]:
    """The expressions of a panel, each with its legend."""
    return [
        (target["expr"].replace(INTERVAL, interval), target["legendFormat"])
        for target in panel["targets"]
    ]


def alerts() -> Sequence[Mapping[str, Any]]:
    """Every alert."""
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions(interval: str = "5m") -> Sequence[str]:
    """Every expression of all of them."""
    panels = [panel for board in dashboards().values() for panel in board["panels"]]
    asked = [query for panel in panels for query, _ in queries(panel, interval)]
    return [*asked, *(rule["expr"] for rule in alerts())]
