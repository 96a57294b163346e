"""Draws the dashboards from a real run: `make pictures`.

This is no Grafana. The demo's stores and a server with two workers live the demo's game day and a
day of trouble, the metrics are read every second, and each panel's own expressions are evaluated
over what was read and drawn in the panel's place.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image
from rich.console import Console

from bootstrap.embedded.stack import EmbeddedStack
from bootstrap.settings import Settings
from bootstrap.stores import migrate_database
from cli.arena import GameDay, play
from standings_client import AsyncClient
from tests.fixtures.collector import collecting
from tests.fixtures.processes import server_process
from tests.telemetry import files
from tests.telemetry.promql import Scrapes
from tests.telemetry.troubled_day import NARROW, Day

_CALM_S: Final = 8.0
_SCRAPE_S: Final = 1.0
_INTERVAL: Final = "4s"
"""Four scrapes, as Grafana has it."""
_COLUMNS: Final = 3
_UNIT_INCH: Final = (3.9, 0.95)
_DPI: Final = 90
_COLOURS: Final = 48
_LEGENDS_MAX: Final = 6
_NOTE: Final = "drawn by tests/telemetry/render.py from the metrics of a real run, not by Grafana"
_UNITS: Final[Mapping[str, str]] = {"reqps": "/s", "ops": "/s", "s": " s", "short": ""}
_MEBI: Final = 2**20
_THOUSAND: Final = 1_000

Lines = Mapping[str, list[tuple[float, float]]]


async def live() -> Scrapes:
    """The pages of a day with trouble."""
    with tempfile.TemporaryDirectory(prefix="standings-pictures-") as name, collecting() as sink:
        folder = Path(name)
        async with EmbeddedStack(folder / "stores") as stack:
            settings = Settings.load(
                {
                    "STANDINGS_POSTGRES_DSN": stack.postgres_dsn,
                    "STANDINGS_REDIS_NODES": ",".join(stack.redis_nodes),
                    "STANDINGS_SERVER_ADDRESS": "127.0.0.1:0",
                    "STANDINGS_SERVER_ADMIN_ADDRESS": "127.0.0.1:0",
                    "STANDINGS_TRACES_ENDPOINT": sink.endpoint,
                    "STANDINGS_TRACES_RATIO": "0.05",
                }
            )
            await migrate_database(settings)
            async with server_process(settings, folder / "state", **NARROW) as server:
                day = Day(server, stack.redis, stack.postgres, _CALM_S, _SCRAPE_S)
                async with AsyncClient(server.address, timeout_s=20) as client:
                    await play(client, GameDay(2_000, 20_000, 1), Console(stderr=True))
                await day.live()
                return day.scrapes


def draw(board: Mapping[str, Any], scrapes: Scrapes, path: Path) -> None:
    """One dashboard, as a PNG."""
    panels = board["panels"]
    rows = max(_rows(panel)[1] for panel in panels)
    width, height = _UNIT_INCH
    figure = Figure(figsize=(_COLUMNS * width, rows * height + 0.5), dpi=_DPI, layout="constrained")
    figure.suptitle(board["title"], fontsize=11, weight="bold")
    figure.supxlabel(f"seconds; {_NOTE}", fontsize=7, color="grey")
    grid = figure.add_gridspec(rows, _COLUMNS)
    for panel in panels:
        place = grid[slice(*_rows(panel)), panel["gridPos"]["x"] // panel["gridPos"]["w"]]
        _panel(panel, scrapes, figure.add_subplot(place))
    drawn = io.BytesIO()
    figure.savefig(drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    # So many colours are enough, and a third of the bytes.
    Image.open(drawn).convert("RGB").quantize(_COLOURS).save(path, optimize=True)


def _rows(panel: Mapping[str, Any]) -> tuple[int, int]:
    """From which row of the picture to before which one; each is 4 units of Grafana's."""
    place = panel["gridPos"]
    return place["y"] // 4, (place["y"] + place["h"]) // 4


def _panel(panel: Mapping[str, Any], scrapes: Scrapes, axes: Axes) -> None:
    lines = _lines(panel, scrapes)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.set_title(panel["title"], fontsize=8, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=6)
    if panel["type"] == "stat":
        axes.set_axis_off()
        last = [points[-1][1] for points in lines.values()]
        axes.text(0.5, 0.45, _told(last[0], unit) if last else "no data", ha="center", fontsize=20)
        return
    for name, points in list(lines.items())[:_LEGENDS_MAX]:
        axes.plot(*zip(*points, strict=True), linewidth=1.2, marker=".", markersize=2, label=name)
    for _, points in list(lines.items())[_LEGENDS_MAX:]:
        axes.plot(*zip(*points, strict=True), linewidth=0.6, color="lightgrey")
    axes.set_xlim(0, scrapes.pages[-1][0] - scrapes.pages[0][0])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _told(value, unit)))
    if not lines:
        axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center", fontsize=7)
        return
    more = len(lines) - _LEGENDS_MAX
    title = f"and {more} more, in grey" if more > 0 else None
    axes.legend(fontsize=5.5, title=title, title_fontsize=5.5, loc="upper right", framealpha=0.6)


def _lines(panel: Mapping[str, Any], scrapes: Scrapes) -> Lines:
    """The points of each line by its legend: largest first, in s from the first page."""
    lines: dict[str, list[tuple[float, float]]] = {}
    start_s = scrapes.pages[0][0]
    # Where there is nothing, a line has a gap.
    blank = [(at_s - start_s, math.nan) for at_s, _ in scrapes.pages]
    for query, legend in files.queries(panel, _INTERVAL):
        for number, (at_s, _) in enumerate(scrapes.pages):
            for labels, value in scrapes.evaluate(query, at_s).items():
                line = lines.setdefault(_named(legend, dict(labels)), list(blank))
                line[number] = (at_s - start_s, value)
    return dict(sorted(lines.items(), key=lambda line: -_largest(line[1])))


def _largest(points: Sequence[tuple[float, float]]) -> float:
    return max((value for _, value in points if math.isfinite(value)), default=0.0)


def _named(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), legend)


def _told(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "bytes":
        return f"{value / _MEBI:,.0f} MiB"
    if unit == "s" and 0 < value < 1:
        return f"{_THOUSAND * value:.3g} ms"
    number = f"{value:,.0f}" if value >= _THOUSAND else f"{value:.3g}"
    return number + _UNITS[unit]


def main(arguments: Sequence[str] | None = None) -> None:
    """Lives the day, and leaves a picture of each dashboard in a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, nargs="?", default=files.ROOT / "docs" / "telemetry")
    folder = parser.parse_args(arguments).folder
    scrapes = asyncio.run(live())
    for name, board in files.dashboards().items():
        draw(board, scrapes, folder / f"{name}.png")


if __name__ == "__main__":
    main()
