"""What is measured, over HTTP: of this process, or of all workers of a supervisor together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from server import metrics

_Series = tuple[str, frozenset[tuple[str, str]]]


@contextmanager
def served(address: str, registry: CollectorRegistry = REGISTRY) -> Iterator[str]:
    """Answers http://<address>/metrics, from a thread of its own; gives the address, with a port
    in place of 0. Raises OSError when that is taken.
    """
    host, _, port = address.rpartition(":")
    server, thread = start_http_server(int(port), host.strip("[]"), registry)
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class WorkerMetrics:
    """What the workers that share a directory have measured, and what their supervisor has. The
    directory is emptied first: counts begin with a supervisor, and outlive its workers.
    """

    def __init__(self, directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700, parents=True)
        self.directory = directory

    def served(self, address: str) -> AbstractContextManager[str]:
        """As `served`, of all workers together."""
        registry = CollectorRegistry()
        registry.register(_Shared(self.directory))
        # There from the start, or the first of each would be no increase to Prometheus.
        for why in ("died", "frozen", "replaced"):
            metrics.WORKER_ENDS.labels(why)
        registry.register(metrics.WORKER_ENDS)
        registry.register(metrics.WORKER_MEMORY)
        return served(address, registry)

    def forget(self, slot: int) -> None:
        """Drops what only a living worker can say; one that was killed leaves it behind."""
        mark_process_dead(slot, str(self.directory))  # type: ignore[no-untyped-call]


class _Shared(Collector):
    """What workers have measured, with their exemplars: those of bootstrap/exemplars.py."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._measures = MultiProcessCollector(None, str(directory))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        exemplars = _exemplars(self._directory)
        for metric in self._measures.collect():  # type: ignore[no-untyped-call]
            if metric.type == "histogram" and exemplars:
                metric.samples = [
                    sample._replace(exemplar=exemplars.get(_series(sample.name, sample.labels)))
                    for sample in metric.samples
                ]
            yield metric


def _exemplars(directory: Path) -> Mapping[_Series, Exemplar]:
    """The latest of each series, over all workers."""
    latest: dict[_Series, Exemplar] = {}
    for file in directory.glob("exemplars_*.json"):
        # One that was made by a worker of another release may look otherwise.
        with suppress(OSError, ValueError, TypeError, AttributeError):
            for name, labels, about, value, at_s in json.loads(file.read_bytes()):
                series, exemplar = _series(name, labels), Exemplar(about, value, at_s)
                if series not in latest or (latest[series].timestamp or 0) < at_s:
                    latest[series] = exemplar
    return latest


def _series(name: str, labels: Mapping[str, str]) -> _Series:
    return name, frozenset(labels.items())
