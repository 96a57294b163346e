"""`standings demo`: the front door."""

import re
import signal
import subprocess
import sys
from pathlib import Path

DEMO = [sys.executable, "-m", "cli", "demo", "--players", "50", "--scores", "300"]


def _servers_in(folder: Path) -> list[Path]:
    """The processes that work in the folder, as the servers all do."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            place = process.joinpath("cwd").readlink()
        except OSError:
            continue
        if place.is_relative_to(folder):
            found.append(process)
    return found


def _environment(folder: Path) -> dict[str, str]:
    return {"STANDINGS_EMBEDDED_DIRECTORY": str(folder), "STANDINGS_SERVER_ADDRESS": "127.0.0.1:0"}


def test_demo_once_twice(tmp_path: Path) -> None:
    """It shows the board and leaves nothing running; the second time the data is still there."""
    for round_number in (1, 2):
        shown = subprocess.run(
            [*DEMO, "--once"],
            capture_output=True,
            text=True,
            check=True,
            env=_environment(tmp_path),
        ).stdout

        assert re.search(r"Top 10 of \d+ players", shown)
        assert re.search(r"Player \d+ is number \d+", shown)
        assert ("is there already" in shown) == (round_number > 1)
        assert not re.search(r"[\x00-\x09\x0b-\x1f]", shown)
        assert _servers_in(tmp_path) == []


def test_demo_serves_until_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends it with exit code 0, every server included."""
    with subprocess.Popen(
        DEMO,
        stdout=subprocess.PIPE,
        text=True,
        env={**_environment(tmp_path), "PYTHONUNBUFFERED": "1"},
    ) as demo:
        assert demo.stdout is not None
        assert any("Serving until Ctrl-C" in line for line in demo.stdout)
        running = _servers_in(tmp_path)
        demo.send_signal(signal.SIGINT)
        demo.communicate()

    assert len(running) >= 7
    assert demo.returncode == 0
    assert _servers_in(tmp_path) == []
