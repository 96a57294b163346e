"""Connections from a command to a server that runs somewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio

from bootstrap.client_settings import ClientSettings
from bootstrap.errors import NotConfigured


def aio_channel(address: str, settings: ClientSettings) -> grpc.aio.Channel:
    """A connection for asyncio. Raises NotConfigured where a file cannot be used."""
    credentials = _credentials(settings)
    if credentials is None:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, credentials, _options(settings))


def channel(address: str, settings: ClientSettings) -> grpc.Channel:
    """A connection for a thread. Raises NotConfigured where a file cannot be used."""
    credentials = _credentials(settings)
    if credentials is None:
        return grpc.insecure_channel(address)
    return grpc.secure_channel(address, credentials, _options(settings))


class _Bearer(grpc.AuthMetadataPlugin):
    """Puts the token that a file has now into each call."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(
        self,
        _context: grpc.AuthMetadataContext,
        callback: Callable[[tuple[tuple[str, str], ...], Exception | None], None],
    ) -> None:
        try:
            token = self._path.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            callback((), error)
            return
        callback((("authorization", f"Bearer {token}"),), None)


def _credentials(settings: ClientSettings) -> grpc.ChannelCredentials | None:
    if settings.ca_file is None:
        if settings.cert_file is not None or settings.token_file is not None:
            # Neither is shown to somebody who may be anybody.
            raise NotConfigured("STANDINGS_CLIENT_CERT_FILE and _TOKEN_FILE need _CA_FILE")
        return None
    if (settings.cert_file is None) != (settings.key_file is None):
        raise NotConfigured("STANDINGS_CLIENT_CERT_FILE and _KEY_FILE need each other")
    credentials = grpc.ssl_channel_credentials(
        _read(settings.ca_file), _read(settings.key_file), _read(settings.cert_file)
    )
    if settings.token_file is None:
        return credentials
    return grpc.composite_channel_credentials(
        credentials, grpc.metadata_call_credentials(_Bearer(settings.token_file))
    )


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotConfigured(f"STANDINGS_CLIENT_*: {path} cannot be read") from error


def _options(settings: ClientSettings) -> list[tuple[str, str]]:
    if settings.server_name is None:
        return []
    return [("grpc.ssl_target_name_override", settings.server_name)]
