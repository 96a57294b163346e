"""How what is measured leaves a worker: by files that its supervisor reads, named by its slot."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from prometheus_client import values
from prometheus_client.values import MultiProcessValue, MutexValue

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
    values.ValueClass = MultiProcessValue(process_identifier=lambda: slot)  # type: ignore[no-untyped-call]
    return True


def _make_room(file: Path) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, _FILE_BYTES)
    finally:
        os.close(descriptor)
