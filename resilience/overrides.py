"""What operators want of breakers, whoever keeps it."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Protocol


class Mode(IntEnum):
    """Who decides over a breaker."""

    AUTO = 1
    FORCED_OPEN = 2
    FORCED_CLOSED = 3


class Overrides(Protocol):
    """The modes that operators have set."""

    def mode(self, name: str) -> Mode:
        """The mode of a breaker or of a parent; AUTO where nobody said anything. Called for every
        breaker many times a second: must not wait.
        """


class _NoOverrides:
    """Breakers decide for themselves."""

    def mode(self, _name: str) -> Mode:
        """AUTO."""
        return Mode.AUTO


NO_OVERRIDES: Final[Overrides] = _NoOverrides()


def mode_of(overrides: Overrides, name: str) -> Mode:
    """The mode of a breaker under its parent, which is what stands before the slash of its name.
    FORCED_OPEN wins, then FORCED_CLOSED.
    """
    parent, slash, _ = name.partition("/")
    modes = {overrides.mode(name), overrides.mode(parent) if slash else Mode.AUTO}
    for mode in (Mode.FORCED_OPEN, Mode.FORCED_CLOSED):
        if mode in modes:
            return mode
    return Mode.AUTO
