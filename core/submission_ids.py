"""Makes submission ids for callers who bring none."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass

from core.ports import Clock


@dataclass(frozen=True, slots=True)
class SubmissionIds:
    """UUIDv7 as text: 48 bits of time in ms, 74 random bits. Source: RFC 9562, section 5.7."""

    clock: Clock

    def __call__(self) -> str:
        """A new id."""
        value = self.clock.now_ms() << 80 | secrets.randbits(80)
        value = value & ~(0xF << 76) | 0x7 << 76
        value = value & ~(0x3 << 62) | 0x2 << 62
        return str(uuid.UUID(int=value))
