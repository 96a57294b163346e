"""How what is measured leaves a worker: by files that its supervisor reads, named by its slot."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Final

from prometheus_client import values
from prometheus_client.samples import Exemplar
from prometheus_client.values import MultiProcessValue, MutexValue

from bootstrap.exemplars import EXEMPLARS

_log = logging.getLogger(__name__)

_KINDS: Final = (
    *("counter", "histogram"),
    *(f"gauge_live{mode}" for mode in ("all", "max", "min", "mostrecent", "sum")),
)
_FILE_BYTES: Final = 256 * 1024
"""Of each kind, taken from the disk at once: writing to a mapped file for which there is no room
later on would end the process. What we measure takes a tenth of it."""


def share_measures(directory: Path, slot: int) -> bool:
    """Lets all that this process measures go to files there; False, and nothing is shared, where
    the disk has no room. To be called before any metric is made, with PROMETHEUS_MULTIPROC_DIR set.

    By slot and not by process, so that the number of files is bounded however often workers are
    started again, and counts go on where a predecessor was killed.
    """
    try:
        for kind in _KINDS:
            _make_room(directory / f"{kind}_{slot}.db")
    except OSError:
        _log.warning("there is no room for metrics", exc_info=True)
        values.ValueClass = MutexValue
        return False
    values.ValueClass = _with_exemplars(MultiProcessValue(process_identifier=lambda: slot))  # type: ignore[no-untyped-call]
    EXEMPLARS.file = directory / f"exemplars_{slot}.json"
    return True


def _with_exemplars(shared: type[Any]) -> type[Any]:
    """A kind of value that shares its exemplars, too."""

    class Value(shared):  # type: ignore[misc]
        def __init__(self, typ: str, metric: str, name: str, *rest: Any, **options: Any) -> None:  # noqa: ANN401
            super().__init__(typ, metric, name, *rest, **options)
            label_names, label_values = rest[:2]
            self._series = (name, tuple(zip(label_names, label_values, strict=True)))

        def set_exemplar(self, exemplar: Exemplar) -> None:
            EXEMPLARS.keep(
                self._series, exemplar.labels, exemplar.value, float(exemplar.timestamp or 0)
            )

    return Value


def _make_room(file: Path) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, _FILE_BYTES)
    finally:
        os.close(descriptor)
