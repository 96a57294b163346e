"""Asks a server for its health, as a container's HEALTHCHECK does."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2 as pb  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2_grpc as pb_grpc

from bootstrap.client_settings import ClientSettings
from server.outgoing import channel


def ask_health(address: str, *, timeout_s: float, settings: ClientSettings | None = None) -> str:
    """SERVING, NOT_SERVING, or the name of the status with which the question failed."""
    with channel(reachable(address), settings or ClientSettings()) as opened:
        try:
            answer = pb_grpc.HealthStub(opened).Check(
                pb.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=False
            )
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(pb.HealthCheckResponse.ServingStatus.Name(answer.status))


def reachable(address: str) -> str:
    """Where to ask a server that listens on host:port; one that listens everywhere, over the
    loopback interface.
    """
    host, _, port = address.rpartition(":")
    if host in {"0.0.0.0", "[::]", "*"}:  # noqa: S104 - compared, not bound
        host = "localhost"
    return f"{host}:{port}"
