"""Finds out who calls: by the certificate that the transport has verified, or else by a token."""

from __future__ import annotations

from typing import Final

from server.errors import Unauthenticated
from server.identity.certificates import Certificates
from server.identity.identity import Evidence, Identity
from server.identity.tokens import Tokens
from server.rpc.call import CallContext

_AUTHORIZATION: Final = "authorization"


class Callers:
    """Who calls. A certificate that names somebody decides, whatever the metadata say; `tokens` is
    None where none are taken.
    """

    def __init__(self, certificates: Certificates, tokens: Tokens | None) -> None:
        self._certificates = certificates
        self._tokens = tokens

    def identify(self, call: CallContext) -> Identity:
        """Who calls. Raises Unauthenticated."""
        if call.evidence:
            return self._certificates.identity(call.evidence)
        if self._tokens is None:
            raise Unauthenticated("no certificate")
        return self._tokens.identity(_authorization(call))

    def use_up(self, call: CallContext, identity: Identity) -> None:
        """Before an act of an operator: a token is good for one. Raises Unauthenticated, and
        Unavailable where it cannot be noted.
        """
        if self._tokens is not None and identity.evidence is Evidence.TOKEN:
            self._tokens.use_up(_authorization(call))


def _authorization(call: CallContext) -> str:
    given = call.metadata.get(_AUTHORIZATION)
    if not isinstance(given, str):
        raise Unauthenticated("neither certificate nor token")
    return given
