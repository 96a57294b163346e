"""What a start refuses, because it would expose too much."""

from __future__ import annotations

import pytest

from bootstrap.errors import NotConfigured
from bootstrap.exposure import check_exposure, is_loopback
from bootstrap.settings import Settings

_TLS = {"TLS_CERT_FILE": "/c", "TLS_KEY_FILE": "/k"}
_MTLS = {**_TLS, "TLS_CLIENT_CA_FILE": "/a"}
_OPEN = {"ADDRESS": "0.0.0.0:1"}
_TOKENS = {"IDENTITY_JWKS_FILE": "/j", "IDENTITY_ISSUER": "i"}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True),
        ("127.8.8.8:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("standings.example:1", False),
        ("*:1", False),
        ("localhost.evil:1", False),
    ],
)
def test_what_is_loopback(address: str, expected: bool) -> None:  # noqa: FBT001
    """Addresses that only this machine reaches."""
    assert is_loopback(address) is expected


@pytest.mark.parametrize(
    ("server", "identity"),
    [
        ({}, {}),
        (_TLS, {}),
        ({}, _TOKENS),
        ({**_MTLS, **_OPEN}, {}),
        ({**_TLS, **_OPEN}, _TOKENS),
        ({**_OPEN, "INSECURE": "true"}, {}),
        ({**_MTLS, **_OPEN, "HEALTH_ADDRESS": "127.0.0.1:3"}, {}),
        ({**_OPEN, **_TLS, "INSECURE": "true"}, {}),
        ({**_MTLS, **_OPEN, "TOKEN_ADDRESS": "0.0.0.0:2"}, _TOKENS),
    ],
)
def test_what_is_served(server: dict[str, str], identity: dict[str, str]) -> None:
    """Loopback as it is, anything else with TLS and known callers, or by the operator's word."""
    _check(server, identity)


@pytest.mark.parametrize(
    ("server", "identity", "why"),
    [
        (_OPEN, {}, "STANDINGS_SERVER_ADDRESS"),
        ({"ADMIN_ADDRESS": "0.0.0.0:1"}, {}, "STANDINGS_SERVER_ADMIN_ADDRESS"),
        ({**_OPEN, **_TLS}, {}, "nobody is asked"),
        ({"HEALTH_ADDRESS": "0.0.0.0:3", "INSECURE": "true"}, {}, "has to be on loopback"),
        (_OPEN, _TOKENS, "no TLS"),
        ({"TLS_CERT_FILE": "/c"}, {}, "need each other"),
        ({"TLS_KEY_FILE": "/k", "INSECURE": "true"}, {}, "need each other"),
        ({"TLS_CLIENT_CA_FILE": "/a"}, {}, "needs _CERT_FILE"),
        ({**_TLS, "TOKEN_ADDRESS": "127.0.0.1:2"}, _TOKENS, "TOKEN_ADDRESS"),
        ({**_MTLS, "TOKEN_ADDRESS": "127.0.0.1:2"}, {}, "TOKEN_ADDRESS"),
        ({}, {**_TOKENS, "IDENTITY_JWKS_URL": "https://x/"}, "exclude each other"),
        ({}, {"IDENTITY_JWKS_FILE": "/j"}, "STANDINGS_IDENTITY_ISSUER"),
    ],
)
def test_what_is_refused(server: dict[str, str], identity: dict[str, str], why: str) -> None:
    """A port for others without TLS or without known callers, and settings that do not fit."""
    with pytest.raises(NotConfigured, match=why):
        _check(server, identity)


def _check(server: dict[str, str], identity: dict[str, str]) -> None:
    named = {f"STANDINGS_SERVER_{name}": value for name, value in server.items()}
    settings = Settings.load(
        named | {f"STANDINGS_{name}": value for name, value in identity.items()}
    )
    check_exposure(settings.server, settings.identity)
