"""A picture of each figure, as PNG and SVG. Needs matplotlib, which only contributors have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bench.figures import HALF, Results, entries_note, figures_of, floor_of
from bench.report import name_of
from bench.rounds import Key, Kind
from bench.samples import GENERATOR
from bench.shapes import DEEP, GET, SUBMIT

_INCH: Final = (9.0, 5.0)
_DPI: Final = 120
_PRODUCT, _FLOOR, _BOUND = "#2a6f97", "#b8c4cc", "#c1121f"
_HALF_BAR: Final = 0.4
_BESIDE: Final[dict[str, Any]] = {"textcoords": "offset points", "ha": "center", "fontsize": 7}
_GROUPS: Final = {
    "server": "#2a6f97",
    "redis": "#c1121f",
    "postgres": "#6a994e",
    "echo": "#b8c4cc",
    GENERATOR: "#e9c46a",
}

Draw = Callable[[Results, Axes], bool]
"""Draws on axes; False: there was nothing to draw."""


def draw(results: Results, folder: Path) -> Sequence[Path]:
    """Leaves the pictures in a folder and returns where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    # Without it an SVG has other ids at every run, and says when it was made.
    with mpl.rc_context({"svg.hashsalt": "standings"}):
        for name, one in _CHARTS.items():
            canvas = Canvas(figsize=_INCH, dpi=_DPI, layout="constrained")
            axes = canvas.add_subplot()
            if not one(results, axes):
                continue
            axes.spines[["top", "right"]].set_visible(False)
            canvas.supxlabel(results.about.get("machine", ""), fontsize=7, color="grey")
            for suffix in ("png", "svg"):
                path = folder / f"{name}.{suffix}"
                metadata = {"Date": None} if suffix == "svg" else None
                canvas.savefig(path, metadata=metadata)
                written.append(path)
    return written


def _throughput(results: Results, axes: Axes) -> bool:
    """What the product does beside its floor."""
    keys = [key for key in _plain_keys(results) if results.ratio(key) is not None]
    for place, key in enumerate(keys):
        floor, rate = results.rate(floor_of(key)) or 0.0, results.rate(key) or 0.0
        axes.plot([rate, floor], [place, place], color=_FLOOR, linewidth=3)
        axes.plot(floor, place, "|", color="black", markersize=12)
        axes.plot(rate, place, "o", color=_PRODUCT)
        axes.annotate(f"{rate:,.0f}", (rate, place), xytext=(0, 6), **_BESIDE)
    _label(axes, [f"{name_of(key)} ({key.callers})" for key in keys])
    axes.set_xscale("log")
    axes.set_title("Calls, scores or ranks a second (callers); dot: the product, line: its floor")
    return bool(keys)


def _latency(results: Results, axes: Axes) -> bool:
    """How long calls take: the middle one, and one of a hundred."""
    keys = list(_plain_keys(results))
    for place, key in enumerate(keys):
        median = results.medians[key]
        axes.plot([median.p50_ms, median.p99_ms], [place, place], color=_FLOOR, linewidth=3)
        axes.plot(median.p50_ms, place, "o", color=_PRODUCT)
        axes.plot(median.p99_ms, place, "|", color=_BOUND, markersize=12)
    _label(axes, [f"{name_of(key)} ({key.callers})" for key in keys])
    axes.set_xscale("log")
    axes.set_title("ms until the answer (callers); dot: p50, line: p99")
    return bool(keys)


def _ratios(results: Results, axes: Axes) -> bool:
    """Each ratio beside what is required of it."""
    figures = [f for f in figures_of(results) if f.unit in ("", "times") and f.seen is not None]
    for place, figure in enumerate(figures):
        share = (figure.seen or 0.0) / figure.bound
        axes.barh(place, share, _HALF_BAR, color=_PRODUCT if figure.met else _BOUND)
        axes.text(share, place, f" {figure.seen:.2f}", va="center", fontsize=7)
    signs = ["\u2264" if figure.at_most else "\u2265" for figure in figures]
    _label(
        axes,
        [f"{f.what} {sign} {f.bound:g}" for f, sign in zip(figures, signs, strict=True)],
    )
    axes.axvline(1.0, color="grey", linewidth=1)
    axes.set_title("Seen / required; red: not met")
    return bool(figures)


def _growth(results: Results, axes: Axes) -> bool:
    """How the middle call grows with the board."""
    drawn = False
    for shape in (GET, DEEP, SUBMIT):
        keys = {count: results.find(shape, entries_note(count)) for count in results.entries}
        points = {
            count: results.medians[key].p50_ms
            for count, key in keys.items()
            if key in results.medians
        }
        if len(points) > 1:
            axes.plot(list(points), list(points.values()), "o-", label=shape)
            drawn = True
    if drawn:
        axes.legend()
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_title("p50 in ms by the entries of the board")
    return drawn


def _cpu(results: Results, axes: Axes) -> bool:
    """Whose processor time a call takes."""
    keys = list(_plain_keys(results))
    for group, colour in _GROUPS.items():
        if not any(group in results.medians[key].cpu_us for key in keys):
            continue
        lefts = [_cpu_before(results, key, group) for key in keys]
        widths = [_cpu_of(results, key, group) for key in keys]
        axes.barh(range(len(keys)), widths, 2 * _HALF_BAR, lefts, color=colour, label=group)
    _label(axes, [f"{name_of(key)} ({key.callers})" for key in keys])
    axes.legend()
    axes.set_title("Processor time in us of a call, score or rank (callers)")
    return bool(keys)


def _cpu_of(results: Results, key: Key, group: str) -> float:
    units = results.units.get(key.shape, (1, ""))[0]
    return results.medians[key].cpu_us.get(group, 0.0) / units


def _cpu_before(results: Results, key: Key, group: str) -> float:
    groups = list(_GROUPS)
    return sum(_cpu_of(results, key, one) for one in groups[: groups.index(group)])


def _plain_keys(results: Results) -> Sequence[Key]:
    """The lines of the product, without those that only show growth."""
    return [key for key in results.medians if key.kind is Kind.PRODUCT and key.note in ("", HALF)]


def _label(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()


_CHARTS: Final[dict[str, Draw]] = {
    "throughput": _throughput,
    "latency": _latency,
    "ratios": _ratios,
    "growth": _growth,
    "cpu": _cpu,
}
