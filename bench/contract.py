"""The contract as a file, for those who have no code made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from standings.v1 import ranking_service_pb2 as pb

SERVICE: Final = pb.DESCRIPTOR.services_by_name["RankingService"].full_name


def write_protoset(path: Path) -> None:
    """Writes the ranking service and all that it is made of, as `buf build` does."""
    files: dict[str, FileDescriptor] = {}
    _collect(pb.DESCRIPTOR, files)
    protoset = FileDescriptorSet()
    for one in files.values():
        one.CopyToProto(protoset.file.add())
    path.write_bytes(protoset.SerializeToString())


def _collect(one: FileDescriptor, files: dict[str, FileDescriptor]) -> None:
    """Each file once, after those that it needs."""
    for needed in one.dependencies:
        _collect(needed, files)
    files.setdefault(one.name, one)
