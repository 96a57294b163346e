"""Who calls: a name that somebody vouched for, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Role(Enum):
    """What a caller is; server/identity/policy.py says what that permits."""

    GAME_SERVER = "game-server"
    """A game's own backend: writes and reads."""
    CLIENT = "client"
    """One player of a game, by a program in the player's hands."""
    INTERNAL = "internal"
    """Other systems of the house: reads."""
    SRE = "sre"
    """Operators."""
    PRIVACY_OFFICER = "privacy-officer"
    """Whoever erases users."""


OPERATORS: Final = frozenset({Role.SRE, Role.PRIVACY_OFFICER})
"""Roles for all games at once, which nobody has for one of them."""


class Evidence(Enum):
    """What an identity rests on."""

    NONE = "none"
    CERTIFICATE = "certificate"
    TOKEN = "token"  # noqa: S105 - the word


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller. `game` is the namespace that it is kept in, None for every board; `user_id` is
    set for a player, who speaks for that user alone.
    """

    name: str
    evidence: Evidence
    roles: frozenset[Role]
    game: str | None = None
    user_id: int | None = None

    def owns(self, board_id: str) -> bool:
        """Whether a board of that name, if there is one, is this caller's to see and to touch."""
        if self.game is None:
            return True
        game, dot, _ = board_id.partition(".")
        return game == self.game and dot != ""

    @property
    def board_prefix(self) -> str:
        """What the names of this caller's boards begin with; empty where it may have any."""
        return "" if self.game is None else f"{self.game}."


ANONYMOUS: Final = Identity("anonymous", Evidence.NONE, frozenset(Role))
"""Every caller of a server that asks for no evidence."""
NOBODY: Final = Identity("nobody", Evidence.NONE, frozenset())
"""A caller of what everybody may ask, where evidence is asked for everything else."""
