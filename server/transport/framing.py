"""gRPC's messages inside the body of an HTTP/2 stream: a flag, a length, the bytes."""

from __future__ import annotations

import struct
import zlib
from typing import Final

from grpc import StatusCode

_PREFIX: Final = struct.Struct(">BI")
PREFIX_BYTES: Final = _PREFIX.size
_COMPRESSED: Final = 1
_ANY_DEFLATE_BITS: Final = 47
"""By zlib's own headers, which tell gzip from deflate."""


class Malformed(Exception):
    """A body that is no sequence of messages which we take; `code` is what its caller is told."""

    def __init__(self, code: StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def framed(message: bytes) -> bytes:
    """A message as it is sent, uncompressed."""
    return _PREFIX.pack(0, len(message)) + message


class Unframer:
    """The messages of one body, which comes in pieces of any size."""

    __slots__ = ("_buffer", "_bytes_max", "_encoding")

    def __init__(self, bytes_max: int, encoding: str) -> None:
        self._buffer = b""
        self._bytes_max = bytes_max
        self._encoding = encoding

    @property
    def empty(self) -> bool:
        """Whether the body may end here."""
        return not self._buffer

    def feed(self, piece: bytes) -> None:
        """Takes in the next piece."""
        self._buffer = self._buffer + piece if self._buffer else piece

    def next(self) -> bytes | None:
        """The next message; None until more has come. Raises Malformed, for one that is too large
        before it has come.
        """
        buffer = self._buffer
        if len(buffer) < PREFIX_BYTES:
            return None
        flag, length = _PREFIX.unpack_from(buffer)
        if length > self._bytes_max:
            raise _too_large(self._bytes_max)
        end = PREFIX_BYTES + length
        if len(buffer) < end:
            return None
        self._buffer = buffer[end:]
        message = buffer[PREFIX_BYTES:end]
        if flag == 0:
            return message
        if flag != _COMPRESSED or self._encoding == "identity":
            raise Malformed(StatusCode.INTERNAL, "a message with a flag that says nothing")
        return self._unpacked(message)

    def _unpacked(self, message: bytes) -> bytes:
        """Never more than is allowed, however well it was compressed."""
        unpacker = zlib.decompressobj(_ANY_DEFLATE_BITS)
        try:
            unpacked = unpacker.decompress(message, self._bytes_max + 1)
        except zlib.error:
            raise Malformed(StatusCode.INTERNAL, "a message that cannot be decompressed") from None
        if len(unpacked) > self._bytes_max:
            raise _too_large(self._bytes_max)
        if not unpacker.eof:
            raise Malformed(StatusCode.INTERNAL, "a message that cannot be decompressed")
        return unpacked


def _too_large(bytes_max: int) -> Malformed:
    return Malformed(StatusCode.RESOURCE_EXHAUSTED, f"a message of more than {bytes_max} bytes")
