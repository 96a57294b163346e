"""How the client's channels are set."""

from __future__ import annotations

from typing import Final

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
