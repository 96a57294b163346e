"""The smallest benchmark that there can be, from the first process to the pictures."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.figures import HALF
from bench.program import GHZ_FOLDER
from bench.shapes import BATCH_GET, BATCH_SUBMIT, DEEP, FIRST, GET, SHAPES, STREAM, SUBMIT, WATCH

_RUN_S = 240
ROOT = Path(__file__).resolve().parents[2]
_TINY = ("--smoke", "--entries", "2000", "--callers", "8", "--seconds", "0.2")

pytestmark = pytest.mark.skipif(
    shutil.which("ghz") is None and shutil.which("ghz", path=ROOT / GHZ_FOLDER) is None,
    reason="ghz, which makes the load, is not installed: make bench-smoke installs it",
)


@pytest.mark.timeout(_RUN_S + 30)
def test_everything_is_measured(tmp_path: Path) -> None:
    """Every kind of call beside its floor, without an error, and every figure is told. How good
    they are is not for a machine that runs tests.
    """
    command = (sys.executable, "-P", "-m", "cli", "bench", *_TINY, "--results", str(tmp_path))
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=_RUN_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    left = json.loads((tmp_path / "latest.json").read_text())
    lines = {(one["call"], one["kind"], one["note"]): one for one in left["measured"]}

    assert {key: one["errors"] for key, one in lines.items() if one["errors"]} == {}
    assert all(one["per_s"] > 0 for one in lines.values())
    names = {shape.name for shape in SHAPES} | {STREAM, WATCH, FIRST, DEEP}
    assert {call for call, kind, note in lines if kind == "product" and not note} == names
    floors = {shape.name for shape in SHAPES if shape.echoed} | {BATCH_SUBMIT, BATCH_GET}
    assert {call for call, kind, _ in lines if kind == "floor"} == floors
    assert {(SUBMIT, "product", HALF), (GET, "product", HALF)} <= lines.keys()
    assert [figure["what"] for figure in left["required"] if figure["seen"] is None] == []
    assert {"server", "redis", "postgres", "generator"} <= (
        lines[SUBMIT, "product", ""]["cpu_us_per_call"].keys()
    )
    assert str(tmp_path) not in (tmp_path / "latest.json").read_text()
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".png", ".svg"}
