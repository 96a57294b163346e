"""The function library as Redis loads it, and the commands that call it.

Its names carry a digest of its source, so the workers of two releases each find the functions they
were written for, and none ever replaces another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

Argument = bytes | int
Command = tuple[bytes | int, ...]


@dataclass(frozen=True, slots=True)
class Library:
    """One version of the functions."""

    source: bytes
    prefix: bytes

    @classmethod
    def of(cls, parts: Iterable[bytes]) -> Library:
        """The library made of some Lua files, joined in their order."""
        body = b"".join(parts)
        digest = sha256(body).hexdigest()[:8].encode()
        prefix = b"st_%s_" % digest
        head = b"#!lua name=standings_%s\nlocal PREFIX = '%s'\n" % (digest, prefix)
        return cls(head + body, prefix)

    def write(self, function: str, keys: Sequence[bytes], args: Sequence[Argument]) -> Command:
        """The command that calls a function that writes."""
        return (b"FCALL", self.prefix + function.encode(), len(keys), *keys, *args)

    def read(self, function: str, keys: Sequence[Argument], args: Sequence[Argument]) -> Command:
        """The command that calls a function that only reads."""
        return (b"FCALL_RO", self.prefix + function.encode(), len(keys), *keys, *args)

    @property
    def load(self) -> Command:
        """The command that stores the library on a node; an error there if it has it already."""
        return (b"FUNCTION", b"LOAD", self.source)


# The files are numbered because each uses the local functions of those before it.
LIBRARY: Final = Library.of(
    path.read_bytes() for path in sorted(Path(__file__).with_name("functions").glob("*.lua"))
)
