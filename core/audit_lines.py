"""The lines of the audit: what each holds, and how it is chained to the one before it.

A line is one JSON object in its canonical form: keys sorted, no spaces, ASCII. Its `hash` is the
SHA-256 of the hash of the line before it and of the canonical content, which is all of the line
but the two hashes. Who changes, removes or moves a line breaks the chain at a place that can be
named; decision 0014 says what a chain cannot show.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

GENESIS: Final = "0" * 64
"""What the first line of a chain has in place of a hash before it."""
LINE_BYTES_MAX: Final = 32 * 1024
"""With the line's end. What is recorded has bounds of its own, far below."""
_HASH_FIELDS: Final = ("previous", "hash")


class LineKind(StrEnum):
    """What a line tells."""

    ACTION = "action"
    """Somebody is about to do something."""
    OUTCOME = "outcome"
    """What became of it; without one, that is not known."""
    TORN = "torn"
    """A line was begun here, never ended, and nothing was done: its writer was killed, or the disk
    was full."""


@dataclass(frozen=True, slots=True)
class Action:
    """What somebody is about to do. `method` is the contract's, "package.Service/Method"; `old` and
    `new` are what it changes, as far as that is known.
    """

    method: str
    target: str
    actor: str = ""
    peer: str = ""
    reason: str = ""
    request_id: str = ""
    old: Mapping[str, Any] = field(default_factory=dict)
    new: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: its name, and number and hash of its last line."""

    chain: str
    sequence: int = 0
    hash: str = GENESIS


@dataclass(frozen=True, slots=True)
class AuditLine:
    """A line whose hash is right. `content` is all of it but the two hashes; `data` is the line as
    it is written, without its end.
    """

    chain: str
    sequence: int
    previous: str
    hash: str
    kind: LineKind
    time: str
    content: Mapping[str, Any]
    data: bytes

    @property
    def head(self) -> Head:
        """The chain's end, as long as this is its last line."""
        return Head(self.chain, self.sequence, self.hash)


def action_content(action: Action) -> dict[str, Any]:
    """What the line of an action holds."""
    return {
        "kind": LineKind.ACTION,
        "method": action.method,
        "target": action.target,
        "actor": action.actor,
        "peer": action.peer,
        "reason": action.reason,
        "request_id": action.request_id,
        "old": dict(action.old),
        "new": dict(action.new),
    }


def outcome_content(sequence: int, status: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """What the line of an outcome holds: the number of its action's line, and the status's name."""
    return {
        "kind": LineKind.OUTCOME,
        "action": sequence,
        "status": status,
        "result": dict(result),
    }


def torn_content(fragment: bytes, *, kept_bytes_max: int) -> dict[str, Any]:
    """What the line holds that stands in place of one that was begun."""
    return {
        "kind": LineKind.TORN,
        "bytes": len(fragment),
        "sha256": hashlib.sha256(fragment).hexdigest(),
        "fragment": fragment[:kept_bytes_max].decode("ascii", "backslashreplace"),
    }


def next_line(head: Head, content: Mapping[str, Any], time_ms: int) -> AuditLine:
    """The line that follows the end of a chain."""
    whole = {
        **content,
        "chain": head.chain,
        "sequence": head.sequence + 1,
        "time": time_text(time_ms),
    }
    hash_ = _hash(head.hash, whole)
    return AuditLine(
        chain=head.chain,
        sequence=head.sequence + 1,
        previous=head.hash,
        hash=hash_,
        kind=LineKind(whole["kind"]),
        time=whole["time"],
        content=whole,
        data=_canonical({**whole, "previous": head.hash, "hash": hash_}),
    )


def parse_line(data: bytes) -> AuditLine | None:
    """The line of some bytes, without the line's end; None where it is not exactly as `next_line`
    makes it: another hash, another spelling, no line at all.
    """
    try:
        whole = json.loads(data)
        if not isinstance(whole, dict) or _canonical(whole) != data:
            return None
        content = {key: value for key, value in whole.items() if key not in _HASH_FIELDS}
        previous, hash_ = str(whole["previous"]), str(whole["hash"])
        if _hash(previous, content) != hash_:
            return None
        return AuditLine(
            chain=str(content["chain"]),
            sequence=int(content["sequence"]),
            previous=previous,
            hash=hash_,
            kind=LineKind(content["kind"]),
            time=str(content["time"]),
            content=content,
            data=data,
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def time_text(time_ms: int) -> str:
    """A moment as lines tell it, in UTC to the ms; the order of the texts is that of the times."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03}Z"


def time_ms_of(text: str) -> int:
    """The moment of such a text, in ms since the epoch. Raises ValueError."""
    seconds = datetime.fromisoformat(text[:19] + "+00:00").timestamp()
    return int(seconds) * 1000 + int(text[20:23])


def _hash(previous: str, content: Mapping[str, Any]) -> str:
    return hashlib.sha256(bytes.fromhex(previous) + _canonical(content)).hexdigest()


def _canonical(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(
        content, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return text.encode()
