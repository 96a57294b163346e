"""How fast things go lately, and what it is therefore worth to wait for others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_REST_MIN_S: Final = 0.006
_NEWEST_SHARE: Final = 0.3
"""What the last one counts for in how long they take."""


@dataclass(slots=True)
class Pace:
    """How long flushes, or crowds of one kind, take lately: `took_s`, 0 before the first is back.

    It tells how slow the machine is, and so how long those take who come right after a crowd.
    """

    rest_max_s: float
    took_s: float = 0.0

    def note(self, took_s: float) -> None:
        """One is back."""
        self.took_s += _NEWEST_SHARE * (took_s - self.took_s)

    @property
    def rest_s(self) -> float:
        """How long they wait for each other: twice as long as those that went take, 6 ms at least
        and `rest_max_s` at most.
        """
        return min(max(_REST_MIN_S, 2 * self.took_s), self.rest_max_s)
