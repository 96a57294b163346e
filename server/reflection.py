"""Tells tools such as grpcurl and buf curl what a listener offers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor
from grpc_reflection.v1alpha import reflection_pb2 as pb  # type: ignore[import-untyped]
from grpc_reflection.v1alpha.reflection import (  # type: ignore[import-untyped]
    ReflectionServicer as SyncReflectionServicer,
)

from server.rpc.call import CallContext


class ReflectionServicer:
    """Answers grpc.reflection.v1alpha.ServerReflection, the version grpcio-reflection carries;
    tools ask for v1 first and fall back to it.
    """

    service: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["ServerReflection"]

    def __init__(self, services: Iterable[str]) -> None:
        self._answerer = SyncReflectionServicer((*services, self.service.full_name))

    async def server_reflection_info(
        self, requests: AsyncIterator[pb.ServerReflectionRequest], _call: CallContext
    ) -> AsyncGenerator[pb.ServerReflectionResponse, None]:
        """One answer for each question, in order."""
        async for request in requests:
            for answer in self._answerer.ServerReflectionInfo(iter((request,)), None):
                yield answer
