"""What processes take, as Linux counts it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Stat(NamedTuple):
    """One process: whose child it is, and its processor time with that of its ended children."""

    parent: int
    cpu_s: float


def cpu_times(groups: Mapping[str, Iterable[int]]) -> Mapping[str, float]:
    """The processor time in s of each group: of these processes and all that descend from them."""
    stats = _stats()
    return {
        group: sum(stats[pid].cpu_s for pid in family(roots, stats))
        for group, roots in groups.items()
    }


def busy_s() -> float:
    """The processor time of the whole machine that was not idle, what a host took away included;
    0 where nobody tells.
    """
    with suppress(OSError):
        line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
        return busy_of(line)
    return 0.0


def busy_of(line: str) -> float:
    """What the first line of /proc/stat says. Guests are counted in it twice."""
    user, nice, system, _idle, _waiting, *interrupts_and_stolen = map(int, line.split()[1:9])
    return (user + nice + system + sum(interrupts_and_stolen)) / _TICKS_PER_S


def family(roots: Iterable[int], stats: Mapping[int, Stat]) -> Sequence[int]:
    """These processes and all that descend from them, as far as they are there."""
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(stat.parent, []).append(pid)
    members = [pid for pid in roots if pid in stats]
    for member in members:
        members.extend(children.get(member, []))
    return members


def resident_bytes(pid: int) -> int:
    """The memory that a process holds; 0 if it is gone."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    return 0


def stat_of(line: str) -> Stat:
    """What a line of /proc/<pid>/stat says."""
    # "pid (name) state parent ...": the name may hold blanks and parentheses.
    fields = line.rpartition(")")[2].split()
    return Stat(int(fields[1]), sum(map(int, fields[11:15])) / _TICKS_PER_S)


def _stats() -> Mapping[int, Stat]:
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended between the two looks
            text = path.read_text(encoding="utf-8", errors="replace")
            stats[int(path.parent.name)] = stat_of(text)
    return stats
