"""What holding the index against the ledger needs from both, a piece at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LedgerPiece:
    """Some entries of a (season, shard) in the order of their users: how many are live, the sum of
    the first eight bytes of the SHA-256 of their items, and the items of the others, end to end.

    `last_user_id` None: there are no more.
    """

    live_count: int
    digest: int
    others: bytes
    last_user_id: int | None


@dataclass(frozen=True, slots=True)
class IndexPiece:
    """Some entries of a (season, shard) in rank order, as items, and the users among them whose own
    values say that they stand elsewhere.
    """

    items: Sequence[bytes]
    strays: Sequence[int]

    @property
    def last_key(self) -> bytes:
        """Where the next piece begins."""
        return self.items[-1][8:32] + self.items[-1][:8]


@dataclass(frozen=True, slots=True)
class IndexedValue:
    """A user's 36-byte value. `whole`: where it has a key to stand at, it stands there."""

    value: bytes
    whole: bool


class LedgerPieces(Protocol):
    """The ledger's side; always the primary."""

    async def piece(self, season_number: int, shard: int, *, after_user_id: int) -> LedgerPiece:
        """The next entries. Raises LedgerUnavailable."""


class IndexPieces(Protocol):
    """The index's side. Each method raises IndexUnbuilt and IndexUnavailable."""

    async def piece(self, season_number: int, shard: int, *, after: bytes) -> IndexPiece:
        """The next entries behind a key, none at the end. Cost: a millisecond of the node."""

    async def values(
        self, season_number: int, shard: int, user_ids: Sequence[int]
    ) -> Mapping[int, IndexedValue]:
        """What up to 1,000 users have, those that have anything; tombstones too."""
