"""Shows removals: in the index, in the caches of this worker, and by a token to other workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import Unavailable
from core.ordering import KEY_BYTES
from core.ports import Freshness, Index
from core.removal_ports import EntrySweep
from core.tokens import TokenSigner, Writes, merge_writes
from core.types import IndexChange, shard_of

_log = logging.getLogger(__name__)

_TRANSACTIONS_MAX: Final = 1_000
"""In a token, the newest ones: what fits into a read's request. The index follows within seconds,
so that older ones are hardly ever waited for.
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """Whether the index shows a change, and the token of a read that shows it."""

    indexed: bool
    consistency_token: str


@dataclass(frozen=True, slots=True)
class IndexRemovals:
    """What follows a removal's commit. `forget` voids all that is cached of a season number, and
    `missed` is told which (season, shard) pairs have not taken a change.
    """

    index: Index
    signer: TokenSigner
    forget: Callable[[int], None]
    missed: Callable[[Collection[tuple[int, int]]], None]

    async def apply(self, changes: Mapping[int, Sequence[IndexChange]]) -> Shown:
        """Makes committed changes visible, by transaction. Cost: one round trip for each."""
        missed: set[tuple[int, int]] = set()
        for xid, items in changes.items():
            try:
                missed |= await self.index.apply(xid, items)
            except Exception:  # noqa: BLE001 - what is committed is acknowledged all the same
                _log.exception("an apply failed; the healer brings it")
                missed |= {(item.season_number, item.shard) for item in items}
        writes = {
            (item.season_number, xid, item.shard)
            for xid, items in changes.items()
            for item in items
        }
        self.missed(missed)
        # After the apply: a read that begins between the two would be cached without it.
        for season_number in {season_number for season_number, _, _ in writes}:
            self.forget(season_number)
        return Shown(not missed, self.signer.consistency(merge_writes(sorted(writes))))

    async def show(self, user_id: int, sweep: EntrySweep) -> Shown:
        """Makes what was done to a user's entries visible; the token is good for every board.

        Cost: as `apply`, and one round trip for what was done before.
        """
        shown = await self.apply(sweep.changes)
        seasons = {season_number for season_number, _ in sweep.earlier}
        xids = tuple({xid for _, xid in sweep.earlier if xid})
        # A transaction is looked for in the user's shard, whichever season is read there.
        newest = max(sweep.earlier, key=lambda entry: entry[1], default=None)
        has_earlier = newest is None or await self._has(user_id, newest[0], xids)
        self._let_go(seasons, user_id, missed=not has_earlier)
        mask = 1 << shard_of(user_id)
        named = sorted({*sweep.changes, *xids})[-_TRANSACTIONS_MAX:]
        token = self.signer.consistency(Writes(0, [(xid, mask) for xid in named]))
        return Shown(shown.indexed and has_earlier, token)

    async def find(self, user_id: int, season_number: int, xid: int) -> Shown:
        """Whether the index shows a change of the past to a user's entries. Cost: a round trip."""
        indexed = await self._has(user_id, season_number, (xid,))
        self._let_go({season_number}, user_id, missed=not indexed)
        writes = merge_writes([(season_number, xid, shard_of(user_id))])
        return Shown(indexed, self.signer.consistency(writes))

    async def _has(self, user_id: int, season_number: int, xids: tuple[int, ...]) -> bool:
        """Whether the user's shard has some transactions. Cost: one round trip."""
        try:
            await self.index.users(
                season_number,
                [user_id],
                cutoff_bytes=KEY_BYTES,
                fresh=Freshness({shard_of(user_id): xids} if xids else {}),
            )
        except Unavailable:
            return False
        return True

    def _let_go(self, seasons: Collection[int], user_id: int, *, missed: bool) -> None:
        """Voids what this worker's caches know; it may be the work of another worker."""
        if missed:
            self.missed([(season_number, shard_of(user_id)) for season_number in seasons])
        for season_number in seasons:
            self.forget(season_number)
