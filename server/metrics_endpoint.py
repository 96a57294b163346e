"""What is measured, over HTTP: of this process, or of all workers of a supervisor together."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from server import metrics


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
        MultiProcessCollector(registry, str(self.directory))  # type: ignore[no-untyped-call]
        registry.register(metrics.WORKER_ENDS)
        registry.register(metrics.WORKER_MEMORY)
        return served(address, registry)

    def forget(self, slot: int) -> None:
        """Drops what only a living worker can say; one that was killed leaves it behind."""
        mark_process_dead(slot, str(self.directory))  # type: ignore[no-untyped-call]
