"""Metrics in files; each in a process of its own, because it is decided once."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from bootstrap.metrics import share_measures
print(share_measures(Path(sys.argv[1]), 5))
from server import metrics
metrics.IN_FLIGHT.inc()
metrics.REFUSED.labels("x").inc()
print(metrics.IN_FLIGHT._value.get(), metrics.REFUSED.labels("x")._value.get())
"""


def _run(directory: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory)],
        env={"PROMETHEUS_MULTIPROC_DIR": str(directory)},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()


def test_counts_go_on_in_the_files_of_a_slot(tmp_path: Path) -> None:
    """A process that takes the slot of another one adds to what that has counted."""
    assert _run(tmp_path) == ["True", "1.0 1.0"]
    assert _run(tmp_path) == ["True", "2.0 2.0"]
    assert {file.name.rpartition("_")[2] for file in tmp_path.iterdir()} == {"5.db"}


def test_without_room_there_are_no_files_and_all_goes_on(tmp_path: Path) -> None:
    """Measuring is no reason not to serve."""
    assert _run(tmp_path / "nowhere") == ["False", "1.0 1.0"]
