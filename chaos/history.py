"""What the callers of a run saw: every attempt of every call, and what was done meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

OK: Final = "OK"
SUBMIT: Final = "submit"
AFTERWARDS: Final = 0
"""The number of an attempt that was made when all was over, to learn what became of a call."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One submission as it was sent."""

    submission_id: str
    user_id: int
    score: int


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one submission: its outcome, or the code of its error."""

    outcome: str = ""
    first_outcome: str = ""
    score: int = 0
    indexed: bool = False
    code: str = OK


@dataclass(frozen=True, slots=True)
class Place:
    """An entry of an answer; `low` and `high` bound its rank."""

    user_id: int
    rank: int
    low: int
    high: int
    score: int


@dataclass(frozen=True, slots=True)
class Meta:
    """What an answer said about itself."""

    source: str
    exact: bool = True
    stale: bool = False
    as_of_ms: int = 0
    staleness_ms: int = 0
    entry_count: int = 0
    missing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a call. Times in s on the monotonic clock of the machine; `number` is 1-based.

    `told` is empty unless the code is OK; so are `places`, and `meta` is None.
    """

    call: int
    number: int
    kind: str
    board: str
    deadline_s: float
    start_s: float
    end_s: float
    code: str
    sent: tuple[Sent, ...] = ()
    told: tuple[Told, ...] = ()
    places: tuple[Place, ...] = ()
    meta: Meta | None = None
    message: str = ""
    """What an error said of itself."""

    @property
    def answered(self) -> bool:
        """Whether there was an answer."""
        return self.code == OK

    @property
    def result(self) -> str:
        """The code of the call, or of the first submission in it that was not taken."""
        return next((told.code for told in self.told if told.code != OK), self.code)


class MarkKind(Enum):
    """What else happened."""

    CALM = "calm"
    """From now on, and until something is broken, nothing may go wrong."""
    FAULT = "fault"
    HEAL = "heal"
    CONVERGED = "converged"
    """Both stores were found equal while nobody wrote."""
    OVERRIDE = "override"
    """A breaker's mode was set; details name it, the mode, its ttl and who acknowledged."""
    OVERRIDE_ENDED = "override ended"
    """The moment at which a breaker was first seen without its override."""
    PROBES = "probes"
    """What a breaker of any worker let through at once, at most, up to then."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was done or seen beside the calls."""

    kind: MarkKind
    time_s: float
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class History:
    """A whole run, or one row of it.

    `wall_offset_s` turns the machine's wall clock into the monotonic one: monotonic = wall - it.
    `late` holds (time, lag) of the generator's own loop, in s: what no server is to blame for.
    """

    wall_offset_s: float
    attempts: list[Attempt] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    late: list[tuple[float, float]] = field(default_factory=list)

    def mark(self, kind: MarkKind, time_s: float, **details: Any) -> None:  # noqa: ANN401 - told as it is
        """Notes something that was done or seen."""
        self.marks.append(Mark(kind, time_s, details))

    def times_of(self, kind: MarkKind) -> Sequence[float]:
        """When something happened, in order."""
        return sorted(mark.time_s for mark in self.marks if mark.kind is kind)

    def since_wall(self, time_ms: int) -> float:
        """A wall-clock time on the monotonic clock."""
        return time_ms / 1000 - self.wall_offset_s

    def deaf_s(self, from_s: float, until_s: float) -> float:
        """For how long of a time the generator itself heard nothing."""
        deaf_s = 0.0
        for time_s, lag_s in sorted(self.late, key=lambda late: late[0] - late[1]):
            begin_s = max(from_s, time_s - lag_s)
            from_s = max(from_s, min(time_s, until_s))
            deaf_s += max(0.0, from_s - begin_s)
        return deaf_s

    def write(self, path: Path) -> None:
        """Leaves the history behind as JSON lines."""
        with path.open("w", encoding="utf-8") as lines:
            for kind, rows in (("attempt", self.attempts), ("mark", self.marks)):
                for row in rows:
                    json.dump({"type": kind} | _plain(row), lines, separators=(",", ":"))
                    lines.write("\n")
            head = {"type": "clock", "wall_offset_s": self.wall_offset_s, "late": self.late}
            json.dump(head, lines, separators=(",", ":"))
            lines.write("\n")

    @classmethod
    def read(cls, path: Path) -> History:
        """The history that was left in a file."""
        history = cls(0)
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                match row.pop("type"):
                    case "attempt":
                        history.attempts.append(_attempt(row))
                    case "mark":
                        kind = MarkKind(row["kind"])
                        history.marks.append(Mark(kind, row["time_s"], row["details"]))
                    case _:
                        history.wall_offset_s = row["wall_offset_s"]
                        history.late = [(time_s, lag) for time_s, lag in row["late"]]
        return history


def _plain(row: Attempt | Mark) -> dict[str, Any]:
    plain = asdict(row)
    if isinstance(row, Mark):
        plain["kind"] = row.kind.value
    return plain


def _attempt(row: dict[str, Any]) -> Attempt:
    meta = row.pop("meta")
    return Attempt(
        sent=_all(Sent, row.pop("sent")),
        told=_all(Told, row.pop("told")),
        places=_all(Place, row.pop("places")),
        meta=Meta(**meta | {"missing": tuple(meta["missing"])}) if meta else None,
        **row,
    )


def _all(made: type[Any], rows: Iterable[Mapping[str, Any]]) -> tuple[Any, ...]:
    return tuple(made(**row) for row in rows)
