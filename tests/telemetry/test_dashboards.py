"""Dashboards and alerts name what there is, and what they show moves."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator
from pathlib import Path

import promql_parser
import pytest

from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from standings_client import AsyncClient, Board
from tests.fixtures.collector import collecting
from tests.fixtures.processes import server_process
from tests.fixtures.redis import empty
from tests.fixtures.server import settings_for
from tests.telemetry import files
from tests.telemetry.promql import Scrapes, names_in
from tests.telemetry.troubled_day import BOARD, NARROW, Day, first_scores

UNMOVED = {
    "standings_audit_broken",
    "standings_audit_unshipped_lines",
    "standings_breaker_slow_rate",
    "standings_override_version_lag",
    "standings_retry_budget_denied_total",
    "standings_shadow_differences_total",
}
"""A bug, a frozen worker or a lost disk moves them: tests/acceptance/test_metrics.py says where."""
FIRE = {
    "StandingsBreakerForced",
    "StandingsBreakerNotClosed",
    "StandingsCallsAbandoned",
    "StandingsFaultInjected",
    "StandingsServerDown",
    "StandingsTracesLost",
    "StandingsWritesRefused",
}
"""What a day of trouble has to be told by."""
SUFFIX = re.compile(r"_(total|bucket|sum|count)$")


@pytest.mark.parametrize("name", files.dashboards())
def test_a_dashboard_is_whole(name: str) -> None:
    """Grafana can take it: a uid of its own, panels that do not overlap, each of a known kind, with
    a source that the reader chooses and expressions that parse.
    """
    board = files.dashboards()[name]
    places = [tuple(panel["gridPos"][key] for key in "xywh") for panel in board["panels"]]

    assert board["uid"] == f"standings-{name}"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len(set(places)) == len(places)
    for panel in board["panels"]:
        assert panel["type"] in {"timeseries", "stat"}
        assert panel["datasource"]["uid"] == "${datasource}"
        for query, legend in files.queries(panel, "1m"):
            tree = promql_parser.parse(query)
            assert set(re.findall(r"{{(\w+)}}", legend)) <= _kept(tree), (query, legend)


def _kept(tree: object) -> set[str]:
    """The labels that what an expression gives has at most, by its outermost aggregation."""
    match tree:
        case promql_parser.AggregateExpr():
            return set(tree.modifier.labels) if tree.modifier else set()
        case promql_parser.BinaryExpr():
            return _kept(tree.lhs)
        case promql_parser.ParenExpr():
            return _kept(tree.expr)
        case promql_parser.Call():
            return _kept(tree.args[-1]) if tree.args else set()
    return set()


@pytest.mark.parametrize("rule", files.alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_a_page(rule: dict[str, object]) -> None:
    """Which exists, is in the list of pages and names a metric that the alert looks at."""
    runbook = rule["annotations"]["runbook"]
    page = (files.ROOT / runbook).read_text()
    names = {SUFFIX.sub("", name) for name in names_in(rule["expr"])} - {"up"}

    assert Path(runbook).name in (files.ROOT / "docs/runbooks/README.md").read_text()
    assert not names or any(name in page for name in names)
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))


def test_prometheus_is_told_where_the_alerts_are() -> None:
    """The file of its settings names the file of rules, and the job that the alerts speak of."""
    settings = (files.PROMETHEUS / "prometheus.yml").read_text()

    assert "alerts.yml" in settings
    assert "job_name: standings" in settings


@pytest.fixture
async def day(
    database: str,
    postgres_faults: EmbeddedPostgres,
    redis_faults: EmbeddedRedisCluster,
    tmp_path: Path,
) -> AsyncIterator[Day]:
    """A server with callers, of which all calls are traced, that has had its day of trouble."""
    await empty(redis_faults)
    with collecting() as collector:
        traces = {
            "STANDINGS_TRACES_ENDPOINT": collector.endpoint,
            "STANDINGS_TRACES_RATIO": "1",
            "OTEL_BSP_SCHEDULE_DELAY": "500",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        }
        settings = settings_for(database, redis_faults)
        async with server_process(settings, tmp_path, **NARROW, **traces) as server:
            day = Day(server, redis_faults, postgres_faults, calm_s=3, scrape_s=0.25)
            async with AsyncClient(server.address, timeout_s=20) as client:
                await client.boards.create(Board(board_id=BOARD))
                await client.batch_submit_scores(first_scores()[:500])
            await day.live()
            collector.break_()
            async with AsyncClient(server.address, timeout_s=20) as client:
                await client.list_entries(BOARD)
            await server.line("traces are lost: the collector does not take them")
            await day.read_page()
            await server.stop()
            await day.read_page()
            yield day


@pytest.mark.timeout(240)
async def test_what_they_name_exists_and_moves(day: Day) -> None:
    """On a real server with real stores: every metric that a dashboard or an alert names is told,
    and all but those that only a bug moves do; every panel has something to show; the alerts are
    silent on an ordinary day, and those of this day's troubles are not.
    """
    scrapes = day.scrapes
    named = {name for expression in files.expressions() for name in names_in(expression)}

    assert named - scrapes.names == set()
    assert {name for name in named if not scrapes.moved(name)} <= UNMOVED

    times = [at_s for at_s, _ in scrapes.pages]
    blank = [
        (name, panel["title"])
        for name, board in files.dashboards().items()
        for panel in board["panels"]
        for query, _ in files.queries(panel, "5s")
        if not any(_shows(scrapes, query, at_s) for at_s in times) and not names_in(query) & UNMOVED
    ]
    assert blank == []

    ordinary = [at_s for at_s in times if at_s < day.ordinary_until_s]
    assert len(ordinary) > 5
    for rule in files.alerts():
        assert not _fires(scrapes, rule["expr"], ordinary), rule["alert"]
    fired = {rule["alert"] for rule in files.alerts() if _fires(scrapes, rule["expr"], times)}
    assert fired >= FIRE


def _shows(scrapes: Scrapes, query: str, at_s: float) -> bool:
    return any(not math.isnan(value) for value in scrapes.evaluate(query, at_s).values())


def _fires(scrapes: Scrapes, query: str, times: list[float]) -> bool:
    return any(_shows(scrapes, query, at_s) for at_s in times)
