"""The tables that a run prints, and the same for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from bench.figures import Figure, Results, figures_of, floor_of
from bench.rounds import Key, Kind


def tables_of(results: Results) -> Sequence[Table]:
    """What was measured, where the time went, and what is required."""
    return [_measured(results), _cpu(results), _required(figures_of(results))]


def write_json(results: Results, path: Path) -> None:
    """Leaves all figures in a file; nothing in it names a host or a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain_of(results), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def plain_of(results: Results) -> Mapping[str, Any]:
    """A run as JSON has it. Rates in units a second, times in ms, memory in bytes."""
    return {
        "about": dict(results.about),
        "entries": list(results.entries),
        "processors_taken_by_others": round(results.disturbed, 3),
        "measured": [_plain_line(results, key) for key in results.medians],
        "facts": {name: _rounded(value) for name, value in asdict(results.facts).items()},
        "required": [
            {
                "what": figure.what,
                "at_most" if figure.at_most else "at_least": figure.bound,
                "seen": _rounded(figure.seen),
                "unit": figure.unit,
                "met": figure.met,
            }
            for figure in figures_of(results)
        ],
    }


def name_of(key: Key) -> str:
    """A line's name for people."""
    return f"{key.shape}, {key.note}" if key.note else key.shape


def _plain_line(results: Results, key: Key) -> Mapping[str, Any]:
    median = results.medians[key]
    return {
        "call": key.shape,
        "note": key.note,
        "kind": key.kind.value,
        "callers": key.callers,
        "per_s": _rounded(results.rate(key)),
        "unit": results.units.get(key.shape, (1, "calls"))[1],
        "p50_ms": _rounded(median.p50_ms),
        "p99_ms": _rounded(median.p99_ms),
        "ratio": _rounded(results.ratio(key)) if key.kind is Kind.PRODUCT else None,
        "errors": dict(median.errors),
        "cpu_us_per_call": {group: round(us, 1) for group, us in median.cpu_us.items()},
    }


def _measured(results: Results) -> Table:
    table = _table("call", "callers", "per second", "", "p50 ms", "p99 ms", "floor", "ratio", "")
    for key, median in results.medians.items():
        if key.kind is not Kind.PRODUCT:
            continue
        ratio = results.ratio(key)
        floor = None if ratio is None else results.rate(floor_of(key))
        table.add_row(
            name_of(key),
            str(key.callers),
            f"{results.rate(key) or 0:,.0f}",
            results.units.get(key.shape, (1, "calls"))[1],
            f"{median.p50_ms:.2f}",
            f"{median.p99_ms:.2f}",
            "-" if floor is None else f"{floor:,.0f}",
            "-" if ratio is None else f"{ratio:.2f}",
            ", ".join(f"{count} {code}" for code, count in sorted(median.errors.items())),
        )
    return table


def _cpu(results: Results) -> Table:
    groups = sorted({group for median in results.medians.values() for group in median.cpu_us})
    table = _table("CPU us per call", "", "callers", *groups)
    for key, median in results.medians.items():
        shares = [
            f"{median.cpu_us[group]:,.0f}" if group in median.cpu_us else "-" for group in groups
        ]
        table.add_row(name_of(key), key.kind.value, str(key.callers), *shares)
    return table


def _required(figures: Sequence[Figure]) -> Table:
    table = _table("required", "", "bound", "seen", "unit", "")
    for figure in figures:
        table.add_row(
            figure.what,
            "at most" if figure.at_most else "at least",
            _number(figure.bound),
            "-" if figure.seen is None else _number(figure.seen),
            figure.unit,
            {True: "met", False: "NOT MET", None: "not measured"}[figure.met],
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", no_wrap=True)
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"  # noqa: PLR2004 - where digits end


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
