"""Metrics in files; each in a process of its own, because it is decided once."""

import subprocess
import sys
import urllib.request
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from server.metrics_endpoint import WorkerMetrics

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


ON_A_LOOP = """
import asyncio, sys
from pathlib import Path
from bootstrap.metrics import share_measures
directory = Path(sys.argv[1])
share_measures(directory, 5)
from server import metrics
refused = metrics.REFUSED.labels("x")

def written():
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))
    return registry.get_sample_value("standings_calls_refused_total", {"reason": "x"})

async def main():
    refused.inc()
    refused.inc()
    metrics.IN_FLIGHT.inc(3)
    metrics.IN_FLIGHT.set(7)
    metrics.IN_FLIGHT.dec()
    print(written(), refused._value.get(), metrics.IN_FLIGHT._value.get())
    await asyncio.to_thread(refused.inc)
    print(written(), refused._value.get())
    async with asyncio.timeout(10):
        while written() != 3:
            await asyncio.sleep(0.01)
    print(refused._value.get(), metrics.IN_FLIGHT._value.get())
    refused.inc(5)
    print(written())

asyncio.run(main())
"""

TRACED = """
import sys
from pathlib import Path
from bootstrap.exemplars import EXEMPLARS
from bootstrap.metrics import share_measures
share_measures(Path(sys.argv[1]), int(sys.argv[2]))
from server import metrics
seconds = metrics.CALL_SECONDS.labels("RankingService.GetEntry")
seconds.observe(0.003)
seconds.observe(float(sys.argv[3]), {"trace_id": sys.argv[4]})
EXEMPLARS.write()
"""


def _run(directory: Path, program: str = PROGRAM, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program, str(directory), *arguments],
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


def test_a_loop_writes_what_it_counts_together(tmp_path: Path) -> None:
    """Soon, and at the end of the process at the latest; other threads write at once."""
    assert _run(tmp_path, ON_A_LOOP) == [
        "0.0 2.0 6.0",
        "1.0 3.0",
        "3.0 6.0",
        "3.0",
    ]
    assert _run(tmp_path) == ["True", "7.0 9.0"]


def test_without_room_there_are_no_files_and_all_goes_on(tmp_path: Path) -> None:
    """Measuring is no reason not to serve."""
    assert _run(tmp_path / "nowhere") == ["False", "1.0 1.0"]


def test_exemplars_go_to_the_supervisor(tmp_path: Path) -> None:
    """For each bucket the latest of all workers, in the form that Prometheus reads: once it says
    that it can, and not before.
    """
    measures = WorkerMetrics(tmp_path / "shared")
    for slot, seconds, trace_id in (
        ("0", "0.004", "a" * 32),
        ("1", "0.0045", "b" * 32),
        ("3", "7", "c" * 32),
    ):
        _run(measures.directory, TRACED, slot, seconds, trace_id)
    (measures.directory / "exemplars_2.json").write_text('[["standings_call_seconds_bucket", 1')
    with measures.served("127.0.0.1:0") as address:
        plain = _page(address, "text/plain")
        page = _page(address, "application/openmetrics-text; version=1.0.0")
    found = {
        sample.labels["le"]: (sample.exemplar.labels["trace_id"][0], sample.exemplar.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.exemplar
    }

    assert found == {"0.005": ("b", 0.0045), "10.0": ("c", 7.0)}
    assert "trace_id" not in plain


def _page(address: str, accept: str) -> str:
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request) as page:
        return page.read().decode()
