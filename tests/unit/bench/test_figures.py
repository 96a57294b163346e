"""Ratios, and what is required of them."""

from __future__ import annotations

import json
from os import cpu_count
from pathlib import Path

from bench.figures import HALF, Facts, Figure, Results, entries_note, figures_of
from bench.planning import FULL_ENTRIES, SMOKE, Changes, Plan, plan_of
from bench.report import plain_of, tables_of, write_json
from bench.rounds import Key, Kind
from bench.samples import OTHERS, Median
from bench.shapes import BATCH_SUBMIT, DEEP, FIRST, GET, STREAM, SUBMIT


def _median(rate: float, p50_ms: float = 1.0, p99_ms: float = 3.0) -> Median:
    return Median(rate, p50_ms, p99_ms, {}, {"server": 100.0})


def _results() -> Results:
    product = Kind.PRODUCT
    medians = {
        Key(SUBMIT, Kind.FLOOR, 64): _median(8_000),
        Key(SUBMIT, product, 64): _median(4_000),
        Key(SUBMIT, Kind.FLOOR, 256): _median(8_000),
        Key(SUBMIT, product, 256): _median(800),
        Key(BATCH_SUBMIT, Kind.FLOOR, 1): _median(80),
        Key(STREAM, product, 1): _median(60),
        Key(FIRST, product, 4): _median(500, 2.0),
        Key(DEEP, product, 4): _median(100, 9.0),
        Key(SUBMIT, product, 64, HALF): _median(2_000, 1.0, 4.0),
        Key(GET, product, 64, entries_note(10)): _median(9, 1.0),
        Key(GET, product, 64, entries_note(1_000)): _median(9, 1.4),
    }
    units = {BATCH_SUBMIT: (500, "scores"), STREAM: (500, "scores")}
    facts = Facts(rebuilt_per_s=70_000, redis_bytes_per_entry=200)
    return Results({"machine": "2 cores"}, medians, units, (10, 1_000), 1_000, facts)


def _figure(what: str, results: Results | None = None) -> Figure:
    (figure,) = [one for one in figures_of(results or _results()) if one.what == what]
    return figure


def test_ratios_are_taken_at_64_callers() -> None:
    """Other numbers of callers are told, and nothing is required of them."""
    assert _figure(f"{SUBMIT} / floor").seen == 0.5
    assert _figure(f"{SUBMIT} / floor").met is True
    assert _figure(SUBMIT).met is False


def test_streams_are_held_against_the_loop_of_batches() -> None:
    """A score is a score; both have a floor of one connection."""
    assert _figure(f"{STREAM} / floor").seen == 0.75
    assert _figure(STREAM).seen == 30_000


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    """A run against a given deployment has no floors."""
    figure = _figure(f"{GET} / floor")

    assert (figure.seen, figure.met) == (None, None)


def test_growth_depth_and_tails() -> None:
    """Each p50 or p99 beside the one that it must not leave behind."""
    assert _figure(f"p50 of {GET}, 10 -> 1,000 entries").met is True
    assert _figure("p50 at rank 500 / at rank 1, no cache").seen == 4.5
    assert _figure("p50 at rank 500 / at rank 1, no cache").met is False
    assert _figure(f"{SUBMIT} p99 / p50, {HALF}").seen == 4


def test_facts_have_bounds() -> None:
    """Valkey has to do with less memory than Redis."""
    results = _results()
    strict = Results(results.about, {}, {}, (1, 2), 2, results.facts, valkey=True)

    assert _figure("rebuild").met is True
    assert _figure("memory of the index per entry").met is True
    assert _figure("memory of the index per entry", strict).met is False


def test_all_figures_are_left_for_machines(tmp_path: Path) -> None:
    """The file says what the tables say."""
    results = _results()
    write_json(results, tmp_path / "results" / "latest.json")

    left = json.loads((tmp_path / "results" / "latest.json").read_text())
    assert json.loads(json.dumps(plain_of(results))) == left
    submit = next(one for one in left["measured"] if one["kind"] == "product")
    assert (submit["call"], submit["per_s"], submit["ratio"]) == (SUBMIT, 4_000, 0.5)
    assert submit["cpu_us_per_call"] == {"server": 100.0}
    assert len(tables_of(results)) == 3


def test_plans_can_be_changed() -> None:
    """What is not asked for stays; boards to compare with stay the smaller ones."""
    assert plan_of(smoke=False, full=False, changes=Changes()) == Plan()
    assert plan_of(smoke=True, full=False, changes=Changes()) == SMOKE
    assert plan_of(smoke=False, full=True, changes=Changes()).other_entries == (
        10_000,
        FULL_ENTRIES,
    )
    tiny = plan_of(smoke=True, full=False, changes=Changes(2_000, (8,), 1, 0.1))
    assert (tiny.entries, tiny.other_entries, tiny.callers) == (2_000, (200,), (8,))
    assert (tiny.pace.seconds, tiny.pace.warm_up_s) == (0.1, 0.1)


def test_a_machine_that_was_shared_shows_it() -> None:
    """Whoever took most of the processors, and in which line, counts."""
    quiet = Median(1_000, 1.0, 1.0, {}, {"server": 900.0})
    shared = Median(1_000, 1.0, 1.0, {}, {"server": 900.0, OTHERS: 500.0})
    lines = {Key(GET, Kind.PRODUCT, 64): shared, Key(GET, Kind.FLOOR, 64): quiet}

    assert round(Results({}, lines, {}, (1,), 1).disturbed * (cpu_count() or 1), 6) == 0.5
    assert Results({}, {}, {}, (1,), 1).disturbed == 0
