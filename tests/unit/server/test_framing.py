"""gRPC's messages, taken out of bodies that come in any pieces."""

from __future__ import annotations

import gzip
import zlib
from itertools import pairwise

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from server.transport.framing import Malformed, Unframer, framed

BYTES_MAX = 1000


def unframed(pieces: list[bytes], encoding: str = "identity") -> list[bytes]:
    """All messages of a body."""
    unframer = Unframer(BYTES_MAX, encoding)
    messages = []
    for piece in pieces:
        unframer.feed(piece)
        while (message := unframer.next()) is not None:
            messages.append(message)
    assert unframer.empty
    return messages


def packed(message: bytes, *, flag: int = 1) -> bytes:
    """A message that says that it is compressed."""
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


@given(st.lists(st.binary(max_size=50)), st.lists(st.integers(0, 300)))
def test_pieces_do_not_matter(messages: list[bytes], cuts: list[int]) -> None:
    """Wherever a body is cut, the messages are what was sent."""
    body = b"".join(framed(message) for message in messages)
    bounds = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[start:end] for start, end in pairwise(bounds)]

    assert unframed(pieces) == messages


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_compressed_messages(compress: type[bytes]) -> None:
    """Both encodings that gRPC has, and one that is not compressed among them."""
    body = packed(compress(b"a" * 900)) + framed(b"b")

    assert unframed([body], "gzip") == [b"a" * 900, b"b"]


@pytest.mark.parametrize(
    ("body", "encoding", "code"),
    [
        (packed(b"", flag=0)[:1] + (1001).to_bytes(4, "big"), "identity", "RESOURCE_EXHAUSTED"),
        (packed(gzip.compress(bytes(10**6), mtime=0)), "gzip", "RESOURCE_EXHAUSTED"),
        (packed(b"not gzip"), "gzip", "INTERNAL"),
        (packed(gzip.compress(b"a" * 900, mtime=0)[:-9]), "gzip", "INTERNAL"),
        (packed(gzip.compress(b"a", mtime=0)), "identity", "INTERNAL"),
        (packed(b"a", flag=7), "gzip", "INTERNAL"),
    ],
)
def test_what_is_refused(body: bytes, encoding: str, code: str) -> None:
    """Too large, as sent or as unpacked, and what is no message."""
    with pytest.raises(Malformed) as caught:
        unframed([body], encoding)

    assert caught.value.code is StatusCode[code]
