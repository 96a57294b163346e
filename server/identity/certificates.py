"""Who a certificate says that calls.

Its URI is the only part that is looked at:

spiffe://<trust domain>/<role>/<name>            for every game
spiffe://<trust domain>/<role>/<game>/<name>     for one
"""

from __future__ import annotations

import re
from typing import Final

from server.errors import Unauthenticated
from server.identity.identity import OPERATORS, Evidence, Identity, Role

GAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")
"""The name of a game: what board ids begin with, so it has no point."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,47}")
_KNOWN_MAX: Final = 10_000
_GAME_STEPS: Final = 3


class Certificates:
    """Identities by the URIs of certificates that a transport has verified."""

    def __init__(self, trust_domain: str) -> None:
        self._prefix = f"spiffe://{trust_domain}/"
        self._known: dict[tuple[str, ...], Identity] = {}

    def identity(self, uris: tuple[str, ...]) -> Identity:
        """Whom a certificate with these URIs names. Raises Unauthenticated. Cost: a look-up, but
        for the first call.
        """
        known = self._known.get(uris)
        if known is None:
            known = self._read(uris)
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[uris] = known
        return known

    def _read(self, uris: tuple[str, ...]) -> Identity:
        # Two names in one certificate are none: which of them calls?
        if len(uris) != 1:
            raise Unauthenticated("the certificate has more than one URI")
        if not uris[0].startswith(self._prefix):
            raise Unauthenticated("the certificate is of another trust domain")
        path = uris[0].removeprefix(self._prefix)
        steps = path.split("/")
        game = steps.pop(1) if len(steps) == _GAME_STEPS else None
        role = _ROLES.get(steps[0])
        if len(steps) != _GAME_STEPS - 1 or role is None or not NAME.fullmatch(steps[1]):
            raise Unauthenticated("the certificate's URI names no role and caller")
        if game is not None and (role in OPERATORS or not GAME.fullmatch(game)):
            raise Unauthenticated("the certificate's URI names a game that it cannot")
        return Identity(path, Evidence.CERTIFICATE, frozenset({role}), game)


_ROLES: Final = {role.value: role for role in Role if role is not Role.CLIENT}
"""Players have tokens, which name a user."""
