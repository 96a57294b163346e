"""How callers reach a server and how they are known, as its settings have it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bootstrap.errors import NotConfigured
from bootstrap.settings import Settings
from core.ports import Clock
from server.identity.callers import Callers
from server.identity.certificates import Certificates
from server.identity.keys import KeyFile, KeysInvalid, KeySource, KeyUrl
from server.identity.tls_files import TlsFiles, TlsInvalid
from server.identity.tokens import Tokens
from server.identity.used_tokens import UsedTokens


@dataclass(frozen=True, slots=True)
class Access:
    """`tls` None: without it; `callers` None: nobody is asked who calls. `tasks` have to run for as
    long as the server does.
    """

    tls: TlsFiles | None = None
    callers: Callers | None = None
    tasks: Sequence[Callable[[], Coroutine[Any, Any, None]]] = field(default=())


OPEN: Final = Access()
"""Plain connections, and nobody is asked."""


def access_of(settings: Settings, clock: Clock) -> Access:
    """The access that settings ask for; bootstrap/exposure.py has seen that they fit together.
    Raises NotConfigured where a file cannot be used.
    """
    try:
        tls = _tls(settings, clock)
        keys = _keys(settings)
    except TlsInvalid as error:
        raise NotConfigured(f"STANDINGS_SERVER_TLS_*: {error}") from error
    except KeysInvalid as error:
        raise NotConfigured(f"STANDINGS_IDENTITY_JWKS_FILE: {error}") from error
    tasks = [one.run for one in (tls, keys) if one is not None]
    if keys is None and settings.server.tls_client_ca_file is None:
        return Access(tls, None, tasks)
    tokens = None
    if keys is not None:
        used = UsedTokens(settings.state.directory / "used-tokens", clock)
        tokens = Tokens(settings.identity, keys, used, clock)
    callers = Callers(Certificates(settings.identity.trust_domain), tokens)
    return Access(tls, callers, tasks)


def _tls(settings: Settings, clock: Clock) -> TlsFiles | None:
    server = settings.server
    if server.tls_cert_file is None or server.tls_key_file is None:
        return None
    return TlsFiles(server.tls_cert_file, server.tls_key_file, server.tls_client_ca_file, clock)


def _keys(settings: Settings) -> KeySource | None:
    identity = settings.identity
    if identity.jwks_file is not None:
        return KeyFile(identity.jwks_file)
    if identity.jwks_url is not None:
        return KeyUrl(identity.jwks_url, identity.jwks_refresh_s)
    return None
