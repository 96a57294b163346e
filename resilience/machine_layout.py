"""Where things stand in the file of a machine, and how it is made."""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import uuid
import zlib
from collections.abc import Sequence
from contextlib import suppress
from mmap import mmap
from pathlib import Path
from typing import Final

from resilience.machine_lines import WORKERS_MAX, line_bytes
from resilience.machine_slots import SLOT_BYTES

FILE_NAME: Final = "machine"
GENERATION_WORD: Final = 12
"""The 8 bytes that count changes, in units of their own size: alone on a line of a processor's
cache, and never written in two halves.
"""

_MAGIC: Final = b"standmch"
_FORMAT: Final = 1
"""Another number for everything that older versions would read wrongly."""
_HEAD: Final = struct.Struct("<8sI16s16sQ")
_CHECKSUM: Final = struct.Struct("<I")
_HEADER_BYTES: Final = 192
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Layout:
    """The places of everything, for some names."""

    def __init__(self, names: Sequence[str]) -> None:
        self.digest = hashlib.sha256("\n".join(names).encode()).digest()[:16]
        section_bytes = len(names) * SLOT_BYTES
        self.overrides_at = _HEADER_BYTES
        self.faults_at = self.overrides_at + section_bytes
        self.lines_at = self.faults_at + section_bytes
        self.size_bytes = self.lines_at + WORKERS_MAX * line_bytes(len(names))

    @staticmethod
    def slot_at(section_at: int, place: int) -> int:
        """The place of a slot in its section."""
        return section_at + place * SLOT_BYTES


def map_file(path: Path, layout: Layout) -> mmap:
    """The file, mapped; a new one where there is none of this layout, version and boot. Only one
    process at a time may ask. Raises OSError.
    """
    expected = (_MAGIC, _FORMAT, layout.digest, _boot_id())
    with suppress(FileNotFoundError, ValueError):
        mapped = _mapped(path, layout.size_bytes)
        if _is_whole(mapped) and _HEAD.unpack_from(mapped)[:4] == expected:
            return mapped
    head = _HEAD.pack(*expected, secrets.randbits(63))
    content = (head + _CHECKSUM.pack(zlib.crc32(head))).ljust(layout.size_bytes, b"\0")
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    # Written in full: where a hole were filled later on a full disk, the kernel would kill us.
    with os.fdopen(
        os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb"
    ) as file:
        file.write(content)
    fresh.rename(path)
    return _mapped(path, layout.size_bytes)


def machine_of(mapped: mmap) -> int:
    """The number that a file got when it was made."""
    return int(_HEAD.unpack_from(mapped)[4])


def _mapped(path: Path, size_bytes: int) -> mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_size != size_bytes:
            raise ValueError(f"{path} is of another layout")
        return mmap(descriptor, size_bytes)
    finally:
        os.close(descriptor)


def _is_whole(mapped: mmap) -> bool:
    (checksum,) = _CHECKSUM.unpack_from(mapped, _HEAD.size)
    return bool(checksum == zlib.crc32(mapped[: _HEAD.size]))


def _boot_id() -> bytes:
    """Tells boots of this machine apart; zeros where the system does not."""
    with suppress(OSError, ValueError):
        return uuid.UUID(_BOOT_ID.read_text().strip()).bytes
    return bytes(16)
