"""Asks a server for its health, as a container's HEALTHCHECK does."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2 as pb  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2_grpc as pb_grpc


def ask_health(address: str, *, timeout_s: float) -> str:
    """SERVING, NOT_SERVING, or the name of the status with which the question failed."""
    host, _, port = address.rpartition(":")
    # A server that listens everywhere is asked over the loopback interface.
    if host in {"0.0.0.0", "[::]", "*"}:  # noqa: S104 - compared, not bound
        host = "localhost"
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            answer = pb_grpc.HealthStub(channel).Check(
                pb.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=False
            )
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(pb.HealthCheckResponse.ServingStatus.Name(answer.status))
