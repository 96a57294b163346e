"""What operators set, as bytes that many processes read while one writes them.

A slot holds two copies. A writer puts the new one over the older, so a writer that is killed in
the middle leaves the newer as it was; the highest version whose checksum is right is in force.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from mmap import mmap
from typing import Final

COPY_BYTES: Final = 1280
SLOT_BYTES: Final = 2 * COPY_BYTES
REASON_BYTES_MAX: Final = 800
"""200 characters of UTF-8."""
ACTOR_BYTES_MAX: Final = 256
"""64 characters."""
TTL_MAX_NS: Final = 24 * 3600 * 10**9

_CHECKSUM: Final = struct.Struct("<I")
_FIELDS: Final = struct.Struct("<QIIdqqqQHH")
"""Version, kind, latency, probability, the three times, machine, lengths of the texts."""
_TEXTS_AT: Final = _CHECKSUM.size + _FIELDS.size
_VERSION_MAX: Final = 2**63
_NOT_YET_NS: Final = 10**9
"""What another processor's clock may be ahead of ours, and far more."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A mode or a fault that somebody set on one name.

    `kind` is a Mode or a FaultKind. It ends when this machine's monotonic clock shows `expire_ns`;
    `expire_time_ms` is that moment on the wall, for telling. The highest (`set_time_ms`,
    `machine`) of a fleet wins.
    """

    kind: int
    expire_ns: int
    expire_time_ms: int
    set_time_ms: int
    machine: int
    reason: str = field(repr=False)
    actor: str = field(repr=False)
    probability: float = 1.0
    latency_ms: int = 0

    @property
    def precedence(self) -> tuple[int, int]:
        """Which of two settings of one name is the newer."""
        return self.set_time_ms, self.machine

    def in_force(self, now_ns: int) -> bool:
        """Whether it has not ended. One that would end later than any may is of no clock of ours:
        where nothing tells boots apart, it may be of the last one.
        """
        return now_ns < self.expire_ns <= now_ns + TTL_MAX_NS + _NOT_YET_NS


class Slot:
    """One slot of a mapped file. Remembers what it read by its bytes: reading again what has not
    changed costs a comparison.
    """

    __slots__ = ("_at", "_file", "_kinds", "_raw", "_setting")

    def __init__(self, file: mmap, at: int, kinds: Sequence[int]) -> None:
        self._file = file
        self._at = at
        self._kinds = frozenset(kinds)
        self._raw: bytes | None = None
        self._setting: Setting | None = None

    def read(self) -> Setting | None:
        """What was set last, ended or not; None where nothing was, or nothing that can be read."""
        raw = self._file[self._at : self._at + SLOT_BYTES]
        if raw != self._raw:
            newest = max(self._copies(raw), key=_version_of)
            self._raw, self._setting = raw, newest[1]
        return self._setting

    def write(self, setting: Setting) -> None:
        """Puts it in force. Only one process at a time may write."""
        raw = self._file[self._at : self._at + SLOT_BYTES]
        versions = [version for version, _ in self._copies(raw)]
        older = versions.index(min(versions))
        at = self._at + older * COPY_BYTES
        self._file[at : at + COPY_BYTES] = _encoded(setting, max(versions) + 1)

    def _copies(self, raw: bytes) -> list[tuple[int, Setting | None]]:
        return [
            _decoded(raw[at : at + COPY_BYTES], self._kinds)
            for at in range(0, SLOT_BYTES, COPY_BYTES)
        ]


def _version_of(copy: tuple[int, Setting | None]) -> int:
    return copy[0]


def clipped(text: str, bytes_max: int) -> str:
    """A text that fits; what is too long loses its end."""
    return text.encode(errors="replace")[:bytes_max].decode(errors="ignore")


def _encoded(setting: Setting, version: int) -> bytes:
    reason = clipped(setting.reason, REASON_BYTES_MAX).encode()
    actor = clipped(setting.actor, ACTOR_BYTES_MAX).encode()
    fields = _FIELDS.pack(
        version,
        setting.kind,
        setting.latency_ms,
        setting.probability,
        setting.expire_ns,
        setting.expire_time_ms,
        setting.set_time_ms,
        setting.machine,
        len(reason),
        len(actor),
    )
    content = (fields + reason + actor).ljust(COPY_BYTES - _CHECKSUM.size, b"\0")
    return _CHECKSUM.pack(zlib.crc32(content)) + content


def _decoded(raw: bytes, kinds: frozenset[int]) -> tuple[int, Setting | None]:
    """The version and the setting of one copy; (0, None) where it is not whole."""
    (checksum,) = _CHECKSUM.unpack_from(raw)
    if checksum != zlib.crc32(raw[_CHECKSUM.size :]):
        return 0, None
    (version, kind, latency_ms, probability, expire_ns, expire_ms, set_ms, machine, *lengths) = (
        _FIELDS.unpack_from(raw, _CHECKSUM.size)
    )
    reason_end = _TEXTS_AT + lengths[0]
    actor_end = reason_end + lengths[1]
    sound = (
        0 < version < _VERSION_MAX
        and kind in kinds
        and 0 < probability <= 1
        and lengths[0] <= REASON_BYTES_MAX
        and lengths[1] <= ACTOR_BYTES_MAX
    )
    if not sound:
        return 0, None
    return version, Setting(
        kind=kind,
        expire_ns=expire_ns,
        expire_time_ms=expire_ms,
        set_time_ms=set_ms,
        machine=machine,
        reason=raw[_TEXTS_AT:reason_end].decode(errors="replace"),
        actor=raw[reason_end:actor_end].decode(errors="replace"),
        probability=probability,
        latency_ms=latency_ms,
    )
