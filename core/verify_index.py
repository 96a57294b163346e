"""Holds the index against the ledger, while writes go on in both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from core.errors import IndexUnavailable
from core.ordering import ITEM_BYTES
from core.ports import Clock, IndexKeeping, LedgerHistory
from core.verify_ports import IndexedValue, IndexPieces, LedgerPieces

_USER_BYTES: Final = 8
_REVISION: Final = slice(24, 30)
"""Of a value; the same six bytes as in an item, without the user before it."""
_DIGEST_MASK: Final = 2**64 - 1
_USERS_MAX: Final = 1_000
_PATIENCE_S: Final = 60.0
"""How long the healer may take to bring what looks as if it were missing."""
_POLL_S: Final = 0.2

Step = Callable[[int], Awaitable[None]]
"""Called with the number of entries gone through; may raise, to end it there."""


@dataclass(frozen=True, slots=True)
class PairCheck:
    """How many live entries of a (season, shard) each side has, and the users whose entries differ
    for certain. Where the index has nothing of it, all do, and none is named.
    """

    database_count: int
    index_count: int
    user_ids: Sequence[int]
    unbuilt: bool = False

    @property
    def equal(self) -> bool:
        """Whether both sides hold the same."""
        return not self.unbuilt and not self.user_ids

    @property
    def difference_count(self) -> int:
        """How many entries differ."""
        return self.database_count if self.unbuilt else len(self.user_ids)


@dataclass(frozen=True, slots=True)
class VerifyIndex:
    """Counts and digests first; entry by entry only where these differ.

    Both sides move meanwhile, and the index follows a little later. What differs at a glance is
    looked at again: it does for certain where the index has a later revision than the ledger read
    after it, or another entry of the same revision, or an older one after its mark has passed all
    that had committed when the ledger was read.
    """

    ledger: LedgerPieces
    index: IndexPieces
    history: LedgerHistory
    keeping: IndexKeeping
    clock: Clock

    async def __call__(self, season_number: int, shard: int, step: Step) -> PairCheck:
        """Raises LedgerUnavailable, IndexUnbuilt, IndexUnavailable."""
        pair = (season_number, shard)
        live_count, ledger_digest, others = await self._ledger_digest(pair, step)
        index_count, index_digest, strays = await self._index_digest(pair)
        doubtful: set[int] = set()
        for part in _parts(list(others)):
            doubtful |= _unequal(others, await self.index.values(*pair, part), part)
        if (live_count, ledger_digest) != (index_count, index_digest):
            doubtful |= await self._compare(pair, step)
        # A set and a value that contradict each other do so at one instant: that is for certain.
        different = strays | await self._settle(pair, sorted(doubtful - strays))
        return PairCheck(live_count, index_count, sorted(different))

    async def unbuilt(self, season_number: int, shard: int, step: Step) -> PairCheck:
        """What is to be said of a pair that the index has nothing of. Raises LedgerUnavailable."""
        live_count, _, _ = await self._ledger_digest((season_number, shard), step)
        return PairCheck(live_count, 0, (), unbuilt=True)

    async def _ledger_digest(
        self, pair: tuple[int, int], step: Step
    ) -> tuple[int, int, dict[int, bytes]]:
        count, digest = 0, 0
        others: dict[int, bytes] = {}
        after: int | None = 0
        while after is not None:
            piece = await self.ledger.piece(*pair, after_user_id=after)
            count += piece.live_count
            digest = (digest + piece.digest) & _DIGEST_MASK
            others |= _values_of(piece.others)
            after = piece.last_user_id
            await step(piece.live_count)
        return count, digest, others

    async def _index_digest(self, pair: tuple[int, int]) -> tuple[int, int, set[int]]:
        count, digest = 0, 0
        strays: set[int] = set()
        after = b""
        while (piece := await self.index.piece(*pair, after=after)).items:
            # A thousand at a time: the loop has others to serve in between.
            digest += sum(int.from_bytes(sha256(item).digest()[:8]) for item in piece.items)
            count += len(piece.items)
            strays |= set(piece.strays)
            after = piece.last_key
        return count, digest & _DIGEST_MASK, strays

    async def _compare(self, pair: tuple[int, int], step: Step) -> set[int]:
        """The users whose entries do not look the same on both sides."""
        season_number, shard = pair
        doubtful: set[int] = set()
        after_user_id = 0
        while True:
            chunk = await self.history.load(
                season_number, shard, after_user_id=after_user_id, limit=_USERS_MAX
            )
            told = _values_of(chunk.items)
            doubtful |= _unequal(told, await self.index.values(*pair, list(told)), told)
            after_user_id = chunk.last_user_id
            await step(0)
            if chunk.count < _USERS_MAX:
                break
        after = b""
        while (piece := await self.index.piece(*pair, after=after)).items:
            user_ids = [int.from_bytes(item[:_USER_BYTES]) for item in piece.items]
            told = await self._told(pair, user_ids)
            doubtful |= {user_id for user_id in user_ids if user_id not in told}
            after = piece.last_key
            await step(0)
        return doubtful

    async def _settle(self, pair: tuple[int, int], user_ids: Sequence[int]) -> set[int]:
        """Those of some users whose entries differ for certain."""
        certain: set[int] = set()
        older: dict[int, bytes] = {}
        for part in _parts(user_ids):
            shown = await self.index.values(*pair, part)
            told = await self._told(pair, part)
            for user_id in _unequal(told, shown, part):
                if _is_older(shown.get(user_id), told.get(user_id)):
                    older[user_id] = told[user_id]
                else:
                    certain.add(user_id)
        if older:
            await self._passed(pair[1], (await self.history.point()).newest)
            for part in _parts(list(older)):
                shown = await self.index.values(*pair, part)
                certain |= {user for user in part if not _is_newer(shown.get(user), older[user])}
        return certain

    async def _told(self, pair: tuple[int, int], user_ids: Iterable[int]) -> dict[int, bytes]:
        """What the ledger says of some users, as the index would have it."""
        season_number, shard = pair
        changes = await self.history.items(shard, [(season_number, user) for user in user_ids])
        return _values_of(b"".join(change.item for change in changes))

    async def _passed(self, shard: int, newest: int) -> None:
        """Returns when all transactions below an id are in a shard. Raises IndexUnavailable."""
        give_up_s = self.clock.monotonic_s() + _PATIENCE_S
        while ((await self.keeping.shards([]))[shard].checkpoint or 0) < newest:
            if self.clock.monotonic_s() > give_up_s:
                raise IndexUnavailable([shard])
            await asyncio.sleep(_POLL_S)


def _values_of(items: bytes) -> dict[int, bytes]:
    """The values in some items, by user."""
    parts = (items[at : at + ITEM_BYTES] for at in range(0, len(items), ITEM_BYTES))
    return {int.from_bytes(item[:_USER_BYTES]): item[_USER_BYTES:] for item in parts}


def _unequal(
    told: Mapping[int, bytes], shown: Mapping[int, IndexedValue], user_ids: Iterable[int]
) -> set[int]:
    """The users of whom the two sides do not say the same."""
    return {user_id for user_id in user_ids if _differs(shown.get(user_id), told.get(user_id))}


def _differs(shown: IndexedValue | None, told: bytes | None) -> bool:
    if shown is None:
        return told is not None
    return not shown.whole or shown.value != told


def _is_older(shown: IndexedValue | None, told: bytes | None) -> bool:
    """Whether the index may just not have come so far yet."""
    if told is None or (shown is not None and not shown.whole):
        return False
    return shown is None or shown.value[_REVISION] < told[_REVISION]


def _is_newer(shown: IndexedValue | None, told: bytes) -> bool:
    """Whether the index has what the ledger said a while ago, or what has come since."""
    if shown is None or not shown.whole:
        return False
    return shown.value == told or shown.value[_REVISION] > told[_REVISION]


def _parts(user_ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(user_ids), _USERS_MAX):
        yield user_ids[start : start + _USERS_MAX]
