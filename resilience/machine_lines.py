"""What each worker says of itself in the file of its machine: one line, which it alone writes."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import Final, NamedTuple

from resilience.breaker import State

WORKERS_MAX: Final = 96
"""Lines: 48 workers are the most that may be set, and while one is replaced there are two of it."""
SILENCE_MAX_NS: Final = 5 * 10**9
"""A worker that has said nothing for so long counts as gone."""

_CHECKSUM: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<IQQQ")
"""Process, when it started, generation seen, when it was written."""
_READING: Final = struct.Struct("<Bffq")
_TRIES_MAX: Final = 3
_STATES: Final = frozenset(State)
_ENDED: Final = frozenset(b"ZX")
"""States of a process that nobody has buried yet."""


class Reading(NamedTuple):
    """What a worker's breaker is: `state` as a State; `open_until_ns` on the monotonic clock, 0
    while it is not open.
    """

    state: int
    failure_rate: float
    slow_rate: float
    open_until_ns: int


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """A live worker. It acts on all that was set up to the generation `seen`."""

    worker: int
    pid: int
    started: int
    seen: int
    written_ns: int
    readings: Mapping[str, Reading]


class Lines:
    """The lines of a mapped file, from `at` on, with a reading for each of some names."""

    def __init__(self, file: mmap, at: int, names: Sequence[str]) -> None:
        self._file = file
        self._at = at
        self._names = names
        self._bytes = line_bytes(len(names))
        self._read: dict[int, tuple[bytes, WorkerLine | None]] = {}

    def write(self, line: WorkerLine) -> None:
        """Says it anew. A name without a reading is told as one that never was anything else."""
        head = _HEAD.pack(line.pid, line.started, line.seen, line.written_ns)
        readings = (line.readings.get(name, _UNKNOWN) for name in self._names)
        content = head + b"".join(_READING.pack(*reading) for reading in readings)
        start = self._at + line.worker * self._bytes
        raw = _CHECKSUM.pack(zlib.crc32(content)) + content
        self._file[start : start + len(raw)] = raw

    def erase(self, worker: int) -> None:
        """Says nothing any more."""
        start = self._at + worker * self._bytes
        self._file[start : start + self._bytes] = bytes(self._bytes)

    def live(self, now_ns: int) -> Sequence[WorkerLine]:
        """The workers that are there, by slot. Cost: a look at each one's process."""
        lines = (self._line(worker) for worker in range(WORKERS_MAX))
        return [line for line in lines if line is not None and _is_live(line, now_ns)]

    def _line(self, worker: int) -> WorkerLine | None:
        """A line that is being written is read again, and in the end as it was before."""
        start = self._at + worker * self._bytes
        kept_raw, kept = self._read.get(worker, (b"", None))
        for _ in range(_TRIES_MAX):
            raw = self._file[start : start + self._bytes]
            if raw == kept_raw:
                return kept
            if not any(raw[: _CHECKSUM.size + _HEAD.size]):
                kept = None
            elif (line := self._decoded(worker, raw)) is not None:
                kept = line
            else:
                continue
            self._read[worker] = raw, kept
            return kept
        return kept

    def _decoded(self, worker: int, raw: bytes) -> WorkerLine | None:
        end = _CHECKSUM.size + _HEAD.size + len(self._names) * _READING.size
        (checksum,) = _CHECKSUM.unpack_from(raw)
        if checksum != zlib.crc32(raw[_CHECKSUM.size : end]):
            return None
        pid, started, seen, written_ns = _HEAD.unpack_from(raw, _CHECKSUM.size)
        rows = _READING.iter_unpack(raw[_CHECKSUM.size + _HEAD.size : end])
        readings = [Reading._make(row) for row in rows]
        if not all(reading.state in _STATES for reading in readings):
            return None
        return WorkerLine(
            worker, pid, started, seen, written_ns, dict(zip(self._names, readings, strict=True))
        )


_UNKNOWN: Final = Reading(State.CLOSED, 0.0, 0.0, 0)


def line_bytes(name_count: int) -> int:
    """The size of a line, in whole words."""
    return -(-(_CHECKSUM.size + _HEAD.size + name_count * _READING.size) // 8) * 8


def start_of(pid: int) -> int | None:
    """What tells a process from a later one of the same number; None when there is none alive.
    0 where the system does not say.
    """
    try:
        raw = Path("/proc", str(pid), "stat").read_bytes()
    except OSError:
        return _without_proc(pid)
    # The name of the program stands in brackets, and may hold some itself.
    state, *numbers = raw[raw.rfind(b")") + 1 :].split() or (b"X",)
    return None if state[0] in _ENDED else int(numbers[18])


def _without_proc(pid: int) -> int | None:
    if Path("/proc/self").exists():
        return None
    with contextlib.suppress(OSError, OverflowError):
        os.kill(pid, 0)
        return 0
    return None


def _is_live(line: WorkerLine, now_ns: int) -> bool:
    return (
        line.pid > 0
        and line.written_ns > now_ns - SILENCE_MAX_NS
        and start_of(line.pid) == line.started
    )
