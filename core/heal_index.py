"""Catches the index up with the ledger and moves its checkpoints (PROTOCOL P6.3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import IndexUnavailable, StandingsError
from core.ports import IndexKeeping, LedgerChanges, LedgerHistory, LedgerTransaction
from core.types import shard_of

_log = logging.getLogger(__name__)

_USERS_PER_REPLAY: Final = 1_000
"""Entries that one function call brings: about a millisecond of a Redis node's time."""


@dataclass(frozen=True, slots=True)
class HealIndex:
    """One step of healing: every shard gets what it missed, and its mark moves on.

    Harmless to run twice at once: applies are conditional on revisions, and a checkpoint is
    refused to whoever comes second.
    """

    history: LedgerHistory
    keeping: IndexKeeping

    async def __call__(self) -> None:
        """Raises LedgerUnavailable; shards that do not answer are left for the next step."""
        groups: dict[int, list[int]] = {}
        for status in await self.keeping.shards([]):
            if status.checkpoint is not None:
                groups.setdefault(status.checkpoint, []).append(status.shard)
        # Nearly always one group. A shard that stays behind must not slow the others down: how
        # far one look at the outbox reaches depends on where it begins.
        failure: StandingsError | None = None
        for since, shards in groups.items():
            try:
                changes = await self.history.changes(since)
                await asyncio.gather(*(self._heal(shard, since, changes) for shard in shards))
            except StandingsError as error:
                failure = error
        if failure is not None:
            raise failure

    async def _heal(self, shard: int, since: int, changes: LedgerChanges) -> None:
        try:
            if since < changes.trimmed_below:
                _log.warning("a shard is too far behind and is built anew", extra={"shard": shard})
                await self.keeping.reset(shard)
            elif since <= changes.horizon:
                await self._catch_up(shard, since, changes)
        except IndexUnavailable:
            _log.warning("a shard could not be healed", extra={"shard": shard}, exc_info=True)

    async def _catch_up(self, shard: int, since: int, changes: LedgerChanges) -> None:
        own = [
            transaction
            for transaction in changes.transactions
            if transaction.xid >= since and transaction.shards >> shard & 1
        ]
        horizon = changes.horizon
        if await self.keeping.checkpoint(shard, since=since, horizon=horizon, count=len(own)):
            return
        done = await self.keeping.done(shard, since=since, horizon=horizon)
        for group in _groups([item for item in own if item.xid not in done]):
            users = {user for item in group for user in item.users if shard_of(user[1]) == shard}
            entries = await self.history.items(shard, sorted(users))
            if not await self.keeping.replay(shard, [item.xid for item in group], entries):
                return
        await self.keeping.checkpoint(shard, since=since, horizon=horizon, count=len(own))


def _groups(missing: Sequence[LedgerTransaction]) -> Iterator[Sequence[LedgerTransaction]]:
    """Transactions in groups that one call can replay: what counts are their current entries, so
    many transactions of a hot user cost one entry.
    """
    group: list[LedgerTransaction] = []
    users = 0
    for transaction in missing:
        if group and users + len(transaction.users) > _USERS_PER_REPLAY:
            yield group
            group, users = [], 0
        group.append(transaction)
        users += len(transaction.users)
    if group:
        yield group
