"""How the client's channels are set, and how it shows who it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import grpc

_MESSAGE_SIZE_BYTES_MAX: Final = 4 * 1024 * 1024

CHANNEL_OPTIONS: Final = (
    # Attempts are counted once, by this client; gRPC's own would multiply them.
    ("grpc.enable_retries", 0),
    ("grpc.lb_policy_name", "round_robin"),
    # Servers take more frequent pings for an attack and end the connection.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", _MESSAGE_SIZE_BYTES_MAX),
    ("grpc.max_send_message_length", _MESSAGE_SIZE_BYTES_MAX),
    # A call lives 2 s by default; gRPC's waits between connects (1 s, then up to 120 s) outlast it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
# An open stream takes a place on its connection, and a call that finds none waits unseen: watches
# have a connection of their own, which channels of one process else share. It is made with the
# first of them, as a channel connects with its first call.
WATCH_CHANNEL_OPTIONS: Final = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))

Token: TypeAlias = Callable[[], str]
"""Gives the bearer token to send; asked for each attempt, in a thread of gRPC's own, so it must be
quick and may not use an event loop: fetch new tokens elsewhere, ahead of time.
"""


def tls_credentials(
    ca_file: str | Path, *, cert_file: str | Path | None = None, key_file: str | Path | None = None
) -> grpc.ChannelCredentials:
    """Credentials for TLS with a server that `ca_file` vouches for; with a certificate and its key,
    for mutual TLS. All are PEM. Files are read once: after a rotation make another client.

    Raises OSError where a file cannot be read, and ValueError unless certificate and key are given
    together.
    """
    if (cert_file is None) != (key_file is None):
        raise ValueError("cert_file and key_file need each other")
    return grpc.ssl_channel_credentials(
        Path(ca_file).read_bytes(),
        None if key_file is None else Path(key_file).read_bytes(),
        None if cert_file is None else Path(cert_file).read_bytes(),
    )


def with_token(
    credentials: grpc.ChannelCredentials | None, token: Token | None
) -> grpc.ChannelCredentials | None:
    """Credentials with a token in every call. Raises ValueError without TLS: who hears a token may
    use it.
    """
    if token is None:
        return credentials
    if credentials is None:
        raise ValueError("a token is sent over TLS only: pass credentials, too")
    return grpc.composite_channel_credentials(
        credentials, grpc.metadata_call_credentials(_Bearer(token))
    )


class _Bearer(grpc.AuthMetadataPlugin):
    """Puts the token of the moment into a call; without one the call fails as Unavailable."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def __call__(
        self,
        _context: grpc.AuthMetadataContext,
        callback: Callable[[tuple[tuple[str, str], ...], Exception | None], None],
    ) -> None:
        try:
            metadata = (("authorization", f"Bearer {self._token()}"),)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the call's
            callback((), error)
            return
        callback(metadata, None)
