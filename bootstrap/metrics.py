"""How what is measured leaves a worker: by files that its supervisor reads, named by its slot."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
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
_WRITE_S: Final = 0.05
"""How much later than it happened something may be seen."""


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
    shared = MultiProcessValue(process_identifier=lambda: slot)  # type: ignore[no-untyped-call]
    values.ValueClass = _written_together(_with_exemplars(shared))
    atexit.register(_UNWRITTEN.write)
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


class _Unwritten:
    """Values that have grown since they were last written, and the thread that writes them."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._thread = 0

    def note(self, value: Any) -> bool:  # noqa: ANN401 - of a class that is made at run time
        """Whether a value will be written soon. Only the thread of an event loop waits for that;
        any other one, and whatever runs before there is a loop, writes by itself.
        """
        if not self._values:
            try:
                asyncio.get_running_loop().call_later(_WRITE_S, self.write)
            except RuntimeError:
                return False
            self._thread = threading.get_ident()
        elif threading.get_ident() != self._thread:
            return False
        self._values.append(value)
        return True

    def mine(self) -> bool:
        """Whether this is the thread of those that are noted."""
        return threading.get_ident() == self._thread

    def write(self) -> None:
        """Writes all of them."""
        grown, self._values = self._values, []
        for value in grown:
            value.write()


_UNWRITTEN: Final = _Unwritten()


def _written_together(shared: type[Any]) -> type[Any]:
    """A kind of value whose growth is kept for a moment: a call counts eight things, and writing
    them one by one took a quarter of all that is ours of a short call. Who is killed loses what he
    counted in that moment.
    """

    class Value(shared):  # type: ignore[misc]
        _growth = 0.0
        _noted = False

        def inc(self, amount: float) -> None:
            if self._noted and _UNWRITTEN.mine():
                self._growth += amount
            elif not self._noted and _UNWRITTEN.note(self):
                self._noted = True
                self._growth = amount
            else:
                super().inc(amount)

        def set(self, value: float, timestamp: float | None = None) -> None:
            self._growth = 0.0
            super().set(value, timestamp)

        def get(self) -> float:
            return float(super().get() + self._growth)

        def write(self) -> None:
            growth, self._growth, self._noted = self._growth, 0.0, False
            super().inc(growth)

    return Value


def _make_room(file: Path) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, _FILE_BYTES)
    finally:
        os.close(descriptor)
