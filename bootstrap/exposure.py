"""What a start refuses, because it would expose more than its operator can have meant."""

from __future__ import annotations

from ipaddress import ip_address

from bootstrap.errors import NotConfigured
from bootstrap.identity_settings import IdentitySettings
from bootstrap.server_settings import ServerSettings, Transport


def check_exposure(server: ServerSettings, identity: IdentitySettings) -> None:
    """Raises NotConfigured where settings of TLS and tokens do not fit together, where an address
    that other machines reach would be served without TLS, or without asking who calls, and where
    the one for health checks is not on loopback.
    """
    _check_tls(server, identity)
    _check_tokens(identity)
    if server.health_address is not None and not is_loopback(server.health_address):
        raise NotConfigured(
            f"STANDINGS_SERVER_HEALTH_ADDRESS, {server.health_address}, is always without TLS: it"
            " has to be on loopback"
        )
    if server.insecure:
        return
    asked = server.tls_client_ca_file is not None or identity.tokens
    for name, address in (
        ("STANDINGS_SERVER_ADDRESS", server.address),
        ("STANDINGS_SERVER_ADMIN_ADDRESS", server.admin_address),
    ):
        if is_loopback(address):
            continue
        if server.tls_cert_file is None:
            _refuse(f"{name}, {address}, is for other machines too, and there is no TLS")
        if not asked:
            _refuse(f"{name}, {address}, is for other machines too, and nobody is asked who calls")


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches host:port."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_tls(server: ServerSettings, identity: IdentitySettings) -> None:
    if server.transport is Transport.ENVOY and server.token_address is not None:
        _refuse(
            "with the transport envoy callers with certificates and with tokens use"
            " STANDINGS_SERVER_ADDRESS; there is no _TOKEN_ADDRESS"
        )
    if (server.tls_cert_file is None) != (server.tls_key_file is None):
        _refuse("STANDINGS_SERVER_TLS_CERT_FILE and _KEY_FILE need each other")
    if server.tls_client_ca_file is not None and server.tls_cert_file is None:
        _refuse("STANDINGS_SERVER_TLS_CLIENT_CA_FILE needs _CERT_FILE and _KEY_FILE")
    if server.token_address is not None and (
        server.tls_client_ca_file is None or not identity.tokens
    ):
        _refuse(
            "STANDINGS_SERVER_TOKEN_ADDRESS is for callers with tokens beside those with"
            " certificates: it needs _TLS_CLIENT_CA_FILE and the keys of tokens"
        )


def _check_tokens(identity: IdentitySettings) -> None:
    if identity.jwks_file is not None and identity.jwks_url is not None:
        _refuse("STANDINGS_IDENTITY_JWKS_FILE and _URL exclude each other")
    if identity.tokens and identity.issuer is None:
        _refuse("STANDINGS_IDENTITY_ISSUER is needed where there are keys of tokens")


def _refuse(why: str) -> None:
    raise NotConfigured(f"{why}; docs/security.md says how to set it up, --insecure serves anyway")
