"""Page and consistency tokens: opaque to callers, signed, bound to what they were made for."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Callable, Sequence
from typing import Final

from core.errors import ConsistencyTokenInvalid, InvalidInput, PageTokenInvalid
from core.ports import KeyRange
from core.types import SHARD_COUNT
from core.values import value

_MAC_BYTES: Final = 16
_MADE_MAX: Final = 64
"""Consistency tokens that are kept: a flush has sixteen at most, for up to 512 callers."""
_LEDGER_BYTES: Final = 4
"""Of the ledger's name: enough to tell those apart that one index sees."""
_NO_LEDGER: Final = bytes(_LEDGER_BYTES)
_SEASON = struct.Struct(">I")
_WRITE = struct.Struct(">QH")
_WALK = struct.Struct(">IBB")
_ENTRIES_PAGE: Final = b"e2"
_BOARDS_PAGE: Final = b"b1"
_CONSISTENCY: Final = b"c2"
_WATCH: Final = b"w1"
_AUDIT_PAGE: Final = b"a1"


@value
class Writes:
    """What a consistency token stands for: transactions, each with the mask of its shards.

    `season_number` is 0 where they reach into several seasons. `ledger` is the beginning of the
    name of the ledger that gave them their ids; b"": that of the moment when a token is made.
    """

    season_number: int
    transactions: Sequence[tuple[int, int]]
    ledger: bytes = b""

    def by_shard(self) -> dict[int, tuple[int, ...]]:
        """For each shard touched, the transactions that a read of it must show."""
        return {
            shard: xids
            for shard in range(SHARD_COUNT)
            if (xids := tuple(xid for xid, mask in self.transactions if mask >> shard & 1))
        }


@value
class Walk:
    """What is walked through in pages: the entries of a season within a range of keys."""

    season_number: int
    within: KeyRange

    @property
    def name(self) -> bytes:
        """Bytes that no other walk has, nor the beginning of them. Tokens are signed over it and
        do not carry it: the caller asks the same question again.
        """
        low, high = self.within.low, self.within.high
        return _WALK.pack(self.season_number, len(low), len(high)) + low + high


@value
class Turn:
    """Where a page begins: with what stands from `point` on, or, going backward, before it."""

    point: bytes
    backward: bool = False


class TokenSigner:
    """Makes and checks tokens. The first secret signs; all of them are accepted, so that secrets
    can be rotated (PROTOCOL Q9). `ledger` names the ledger of the moment; b"" where it is unknown.
    """

    def __init__(self, secrets: Sequence[bytes], ledger: Callable[[], bytes] = bytes) -> None:
        # Each with its key taken in, which costs as much as a token.
        self._macs = [hmac.new(secret, digestmod=hashlib.sha256) for secret in secrets]
        self._ledger = ledger
        self._made: dict[bytes, str] = {}
        """Consistency tokens by what they stand for."""

    def consistency(self, writes: Writes) -> str:
        """The token of some writes."""
        ledger = (writes.ledger or self._ledger())[:_LEDGER_BYTES] or _NO_LEDGER
        parts = [ledger, _SEASON.pack(writes.season_number)]
        parts += [_WRITE.pack(xid, mask) for xid, mask in writes.transactions]
        body = b"".join(parts)
        token = self._made.get(body)
        if token is None:
            token = self._seal(_CONSISTENCY, body)
            if len(self._made) >= _MADE_MAX:
                self._made.clear()
            self._made[body] = token
        return token

    def writes(self, token: str) -> Writes:
        """What a consistency token stands for. Raises ConsistencyTokenInvalid."""
        body = self._open(_CONSISTENCY, token)
        head = _LEDGER_BYTES + _SEASON.size
        if body is None or (len(body) - head) % _WRITE.size:
            raise ConsistencyTokenInvalid
        (season_number,) = _SEASON.unpack_from(body, _LEDGER_BYTES)
        ledger = body[:_LEDGER_BYTES]
        transactions = tuple(_WRITE.iter_unpack(body[head:]))
        return Writes(season_number, transactions, b"" if ledger == _NO_LEDGER else ledger)

    def entries_page(self, turn: Turn, walk: Walk) -> str:
        """The token of the next page of a walk."""
        return self._seal(_ENTRIES_PAGE, bytes((turn.backward,)) + turn.point, walk.name)

    def entries_turn(self, token: str, walk: Walk) -> Turn:
        """Where a page of a walk begins. Raises PageTokenInvalid, also for the token of another
        season or range.
        """
        body = self._open(_ENTRIES_PAGE, token, walk.name)
        if not body:
            raise PageTokenInvalid
        return Turn(body[1:], backward=bool(body[0]))

    def boards_page(self, after: str, prefix: str = "") -> str:
        """The token of the page that begins behind a name, of the boards with a prefix."""
        return self._seal(_BOARDS_PAGE, after.encode(), _bound(prefix))

    def boards_after(self, token: str, prefix: str = "") -> str:
        """The name that a page of boards begins behind. Raises PageTokenInvalid, also for the
        token of another prefix.
        """
        body = self._open(_BOARDS_PAGE, token, _bound(prefix))
        if body is None:
            raise PageTokenInvalid
        return body.decode()

    def audit_page(self, time: str, chain: str, sequence: int, *, question: bytes) -> str:
        """The token of the page of a question that begins behind an event of the audit."""
        body = f"{time} {chain} {sequence}"
        return self._seal(_AUDIT_PAGE, body.encode(), question)

    def audit_point(self, token: str, *, question: bytes) -> tuple[str, str, int]:
        """Time, chain and number of the event that a page begins behind. Raises PageTokenInvalid,
        also for the token of another question.
        """
        body = self._open(_AUDIT_PAGE, token, question)
        if body is None:
            raise PageTokenInvalid
        time, chain, sequence = body.decode().split(" ")
        return time, chain, int(sequence)

    def watch_state(self, *, season_number: int, question: bytes, state: bytes) -> str:
        """The token of what a watcher of a question has seen, by the digest of that state."""
        return self._seal(_WATCH, _SEASON.pack(season_number) + state, question)

    def watched_state(self, token: str, *, question: bytes) -> tuple[int, bytes]:
        """The season and the digest of what a watcher has seen. Raises InvalidInput, also for the
        token of another question.
        """
        body = self._open(_WATCH, token, question)
        if body is None:
            raise InvalidInput("resume_token", "not a token of this watch")
        (season_number,) = _SEASON.unpack_from(body)
        return season_number, body[_SEASON.size :]

    def _seal(self, kind: bytes, body: bytes, bound_to: bytes = b"") -> str:
        mac = _mac(self._macs[0], kind + bound_to, body)
        return _text(mac + body)

    def _open(self, kind: bytes, token: str, bound_to: bytes = b"") -> bytes | None:
        try:
            data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if _text(data) != token:
            # Base64 has spare bits at the end: one token, one text.
            return None
        mac, body = data[:_MAC_BYTES], data[_MAC_BYTES:]
        matches = [
            hmac.compare_digest(mac, _mac(keyed, kind + bound_to, body)) for keyed in self._macs
        ]
        return body if any(matches) else None


def merge_writes(all_writes: Sequence[tuple[int, int, int]]) -> Writes:
    """The writes behind a batch: from (season_number, xid, shard) of each; xid 0 where a write
    left nothing to wait for.
    """
    if len(all_writes) == 1:
        ((season_number, xid, shard),) = all_writes
        return Writes(season_number, ((xid, 1 << shard),) if xid else ())
    seasons: set[int] = set()
    masks: dict[int, int] = {}
    for season_number, xid, shard in all_writes:
        seasons.add(season_number)
        if xid:
            masks[xid] = masks.get(xid, 0) | 1 << shard
    return Writes(seasons.pop() if len(seasons) == 1 else 0, tuple(masks.items()))


def _bound(prefix: str) -> bytes:
    """Bytes that no other prefix has, nor the beginning of them; without one none, as ever."""
    return prefix.encode() + b"\0" if prefix else b""


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _mac(keyed: hmac.HMAC, kind: bytes, body: bytes) -> bytes:
    mac = keyed.copy()
    mac.update(kind + body)
    return mac.digest()[:_MAC_BYTES]
