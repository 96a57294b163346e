"""What became of the calls of a soak, and what was wrong with them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

NOT_NOW: Final = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"})
"""What a server says that is busy, or whose stores are."""
_TEXTS_MAX: Final = 100
_TEXT_CHARACTERS_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class End:
    """The status of a call. `explained`: the server itself gave details with it, so that it is not
    what a library or a proxy makes of a status that is missing.
    """

    code: str
    message: str = ""
    explained: bool = False

    @property
    def name(self) -> str:
        """What it is counted as."""
        return f"{self.code} with details" if self.explained else self.code


@dataclass(slots=True)
class Tally:
    """Counts, and the first of what was wrong. `kind` says what a caller was up to."""

    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often calls of a kind ended with a code."""
    checked: Counter[str] = field(default_factory=Counter)
    """How many answers were held against what they had to be, by method."""
    wrong_count: int = 0
    texts: list[str] = field(default_factory=list)
    _began_s: float = field(default_factory=time.monotonic)

    def ended(self, kind: str, method: str, end: End, allowed: Collection[str]) -> None:
        """A call is over. Any code but those that such a call may have is wrong; that the server
        cannot do it now is right where it explains itself.
        """
        self.ends[kind, end.name] += 1
        if end.code in allowed or (end.explained and end.code in NOT_NOW):
            return
        self.wrong(f"{method} of a caller who is {kind} ended with {end.name}: {end.message}")

    def check(self, method: str, right: bool, text: str) -> None:  # noqa: FBT001 - what it is about
        """An answer was looked at; `text` says what is wrong if it is not right."""
        self.checked[method] += 1
        if not right:
            self.wrong(f"{method}: {text}")

    def wrong(self, text: str) -> None:
        """Something that must not be."""
        self.wrong_count += 1
        if len(self.texts) < _TEXTS_MAX:
            told = " ".join(text.split())[:_TEXT_CHARACTERS_MAX]
            self.texts.append(f"after {time.monotonic() - self._began_s:.1f} s: {told}")

    def told(self) -> Mapping[str, Mapping[str, int]]:
        """How often calls ended with a code, by kind."""
        kinds: dict[str, dict[str, int]] = {}
        for (kind, code), count in sorted(self.ends.items()):
            kinds.setdefault(kind, {})[code] = count
        return kinds

    def lines(self) -> Sequence[str]:
        """The same for a reader."""
        return [
            f"{kind}: " + ", ".join(f"{count:,} {code}" for code, count in codes.items())
            for kind, codes in self.told().items()
        ]
