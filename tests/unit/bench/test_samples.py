"""What runs came to: read, and brought together."""

from __future__ import annotations

import pytest

from bench.ghz import connections_of, sample_of
from bench.rounds import Key, Kind, Pace, interleaved
from bench.samples import Median, Sample, median_of, sample_of_times

REPORT = {
    "count": 110,
    "total": 2_000_000_000,
    "statusCodeDistribution": {"OK": 100, "Unavailable": 10},
    "latencyDistribution": [
        {"percentage": 50, "latency": 1_500_000},
        {"percentage": 99, "latency": 9_000_000},
    ],
}


def test_reports_of_ghz() -> None:
    """What failed is counted apart, and no part of the rate."""
    sample = sample_of(REPORT)

    assert Sample(100, 2.0, 1.5, 9.0, {"Unavailable": 10}) == sample
    assert sample.rate == 50


def test_a_report_without_success() -> None:
    """Ghz leaves out what it has no figures for."""
    nothing = {"total": 1_000_000_000, "statusCodeDistribution": {"Unavailable": 3}}

    assert Sample(0, 1.0, 0.0, 0.0, {"Unavailable": 3}) == sample_of(nothing)
    assert sample_of({"total": 0, "latencyDistribution": None}).rate == 0


def test_medians_are_of_each_figure() -> None:
    """Errors add up; processor time is per call."""
    samples = [
        Sample(100, 1.0, 1.0, 9.0, {"INTERNAL": 1}, {"server": 0.1}),
        Sample(300, 1.0, 3.0, 5.0, {"INTERNAL": 2}, {"server": 0.9}),
        Sample(200, 1.0, 2.0, 7.0, {}, {"server": 0.4, "redis": 0.1}),
    ]

    assert Median(200, 2.0, 7.0, {"INTERNAL": 3}, {"redis": 0.0, "server": 2_000.0}) == median_of(
        samples
    )
    with pytest.raises(ValueError, match="no samples"):
        median_of([])


def test_times_become_percentiles() -> None:
    """Also a single one, or none."""
    sample = sample_of_times([float(n) for n in range(1, 1000)], 2.0)

    assert (sample.calls, sample.p50_ms, sample.p99_ms) == (999, 500.0, 990.0)
    assert Sample(1, 1.0, 4.0, 4.0) == sample_of_times([4.0], 1.0)
    assert Sample(0, 1.0, 0.0, 0.0) == sample_of_times([], 1.0)


@pytest.mark.parametrize(("callers", "connections"), [(1, 1), (4, 4), (64, 8), (256, 16)])
def test_callers_share_connections(callers: int, connections: int) -> None:
    """As those of a game server do; so few that each may have its own do not."""
    assert connections_of(callers) == connections


async def test_rounds_go_in_turn() -> None:
    """Every load once a round; the first round is for warming up and thrown away."""
    seen: list[tuple[str, float]] = []
    calls = iter(range(100))

    async def run(name: str, seconds: float) -> Sample:
        seen.append((name, seconds))
        return Sample(next(calls), 1.0, 1.0, 1.0)

    one, two = Key("a", Kind.FLOOR, 1), Key("a", Kind.PRODUCT, 1)
    medians = await interleaved(
        {one: lambda s: run("one", s), two: lambda s: run("two", s)},
        Pace(runs=3, seconds=2.0, warm_up_s=1.0),
        lambda _text: None,
    )

    assert [("one", 1.0), ("two", 1.0)] + 3 * [("one", 2.0), ("two", 2.0)] == seen
    assert {one: 4, two: 5} == {key: median.rate for key, median in medians.items()}
