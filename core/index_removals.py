"""Shows removals: in the index, in the caches of this worker, and by a token to other workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from core.errors import Unavailable
from core.ordering import KEY_BYTES
from core.ports import Freshness, Index
from core.tokens import TokenSigner, merge_writes
from core.types import IndexChange, shard_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shown:
    """Whether the index shows a change, and the token of a read that shows it."""

    indexed: bool
    consistency_token: str


@dataclass(frozen=True, slots=True)
class IndexRemovals:
    """What follows a removal's commit. `forget` voids all that is cached of a season number."""

    index: Index
    signer: TokenSigner
    forget: Callable[[int], None]

    async def apply(self, changes: Mapping[int, Sequence[IndexChange]]) -> Shown:
        """Makes committed changes visible, by transaction. Cost: one round trip for each."""
        indexed = True
        for xid, items in changes.items():
            try:
                missed = await self.index.apply(xid, items)
            except Exception:  # noqa: BLE001 - what is committed is acknowledged all the same
                _log.exception("an apply failed; the healer brings it")
                indexed = False
            else:
                indexed = indexed and not missed
        writes = {
            (item.season_number, xid, item.shard)
            for xid, items in changes.items()
            for item in items
        }
        # After the apply: a read that begins between the two would be cached without it.
        for season_number in {season_number for season_number, _, _ in writes}:
            self.forget(season_number)
        return Shown(indexed, self.signer.consistency(merge_writes(sorted(writes))))

    async def find(self, user_id: int, season_number: int, xid: int) -> Shown:
        """Whether the index shows a change of the past to a user's entries. Cost: a round trip."""
        shard = shard_of(user_id)
        try:
            await self.index.users(
                season_number,
                [user_id],
                cutoff_bytes=KEY_BYTES,
                fresh=Freshness({shard: (xid,)}),
            )
        except Unavailable:
            indexed = False
        else:
            indexed = True
        # It may be the work of another worker, of which this one's caches do not know.
        self.forget(season_number)
        token = self.signer.consistency(merge_writes([(season_number, xid, shard)]))
        return Shown(indexed, token)
