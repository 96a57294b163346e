"""What tools are told about a listener."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha import reflection_pb2_grpc as reflection_grpc

from bootstrap.server_settings import ServerSettings
from resilience.machine import MachineFile
from server.app import Server
from server.health import Health
from tests.unit.server.fakes import Fakes, Serving


async def ask(channel: grpc.aio.Channel, **question: str) -> pb.ServerReflectionResponse:
    """One question and its answer."""
    stream = reflection_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
    await stream.write(pb.ServerReflectionRequest(**question))
    await stream.done_writing()
    answers = [answer async for answer in stream]
    (answer,) = answers
    return answer


async def test_each_listener_lists_its_own_services(serving: Serving) -> None:
    """Operators' services are not on the list of the public listener."""
    public = await ask(serving.channel, list_services="")
    admin = await ask(serving.admin_channel, list_services="")
    shared = ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"]

    assert [service.name for service in public.list_services_response.service] == [
        *shared,
        "standings.v1.BoardService",
        "standings.v1.ModerationService",
        "standings.v1.RankingService",
    ]
    assert [service.name for service in admin.list_services_response.service] == [
        *shared,
        "standings.v1.AdminService",
    ]


async def test_a_service_comes_with_its_files(serving: Serving) -> None:
    """A tool gets what it needs to build a request."""
    answer = await ask(serving.channel, file_containing_symbol="standings.v1.RankingService")
    files = answer.file_descriptor_response.file_descriptor_proto
    names = {FileDescriptorProto.FromString(file).name for file in files}

    assert {"standings/v1/ranking_service.proto", "standings/v1/types.proto"} <= names


async def test_unknown_names_are_answered(serving: Serving) -> None:
    """What does not exist gets an error inside the answer."""
    answer = await ask(serving.channel, file_by_filename="nonsense.proto")

    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_reflection_can_be_off(settings: ServerSettings, machine: MachineFile) -> None:
    """Without the setting nobody is told anything."""
    quiet = settings.model_copy(update={"reflection": False})
    server = Server(Fakes().use_cases(machine), quiet, Health(()))
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(channel, list_services="")
    await server.stop()

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
