"""Catches the index up with the ledger and moves its checkpoints (PROTOCOL P6.3)."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from core.errors import IndexUnavailable, StandingsError
from core.ports import (
    Checkpoint,
    Clock,
    IndexKeeping,
    LedgerChanges,
    LedgerHistory,
    LedgerTransaction,
    ShardStatus,
)
from core.types import shard_of

_log = logging.getLogger(__name__)

_USERS_PER_REPLAY: Final = 1_000
"""Entries that one function call brings: about a millisecond of a Redis node's time."""
_STEPS_MAX: Final = 1_024
"""Steps remembered; then every other is left out. The older a step, the fewer are left beside it:
what is told of a mark that is hours behind is some seconds older still, and never too new."""


@dataclass(slots=True)
class Steps:
    """When the ledger was looked at, and below which id all stood that had committed by then."""

    newest: list[int] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    ledger: bytes = b""

    def note(self, newest: int, time_ms: int, ledger: bytes = b"") -> None:
        """Adds a look. Ids of another ledger, or of the same one put back, begin anew."""
        if ledger != self.ledger or (self.newest and newest < self.newest[-1]):
            self.ledger = ledger
            self.newest.clear()
            self.times_ms.clear()
        if self.newest and newest == self.newest[-1]:
            self.times_ms[-1] = max(time_ms, self.times_ms[-1])
            return
        self.newest.append(newest)
        self.times_ms.append(time_ms)
        if len(self.newest) > _STEPS_MAX:
            older = slice(0, _STEPS_MAX // 2, 2)
            del self.newest[older], self.times_ms[older]

    def caught_up_ms(self, horizon: int) -> int | None:
        """A time before which nothing was committed but what is below `horizon`; None: unknown."""
        place = bisect_right(self.newest, horizon)
        return self.times_ms[place - 1] if place else None


@dataclass(frozen=True, slots=True)
class HealIndex:
    """One step of healing: every shard gets what it missed, and its mark moves on.

    Harmless to run twice at once: applies are conditional on revisions, and a checkpoint is
    refused to whoever comes second. The time that goes with a mark is that of the last question by
    which nothing at or above the mark had been committed: an open transaction, or a backlog of
    several steps, lets it grow old.

    After a failover a shard answers nothing until all is brought to it that had committed by then,
    also what committed above the horizon: it may have been acknowledged as indexed, and lost. A
    shard that is a copy of another ledger is given up: its ids say nothing of this one.
    """

    history: LedgerHistory
    keeping: IndexKeeping
    clock: Clock
    steps: Steps = field(default_factory=Steps)

    async def __call__(self) -> None:
        """Raises LedgerUnavailable; shards that do not answer are left for the next step."""
        groups: dict[int, list[ShardStatus]] = {}
        for status in await self.keeping.shards([]):
            if status.checkpoint is not None:
                groups.setdefault(status.checkpoint, []).append(status)
        # Nearly always one group. A shard that stays behind must not slow the others down: how
        # far one look at the outbox reaches depends on where it begins.
        failure: StandingsError | None = None
        for since, shards in groups.items():
            try:
                asked_ms = self.clock.now_ms()
                changes = await self.history.changes(since)
                self.steps.note(changes.newest, asked_ms, changes.ledger)
                await asyncio.gather(*(self._heal(shard, since, changes) for shard in shards))
            except StandingsError as error:
                failure = error
        if failure is not None:
            raise failure

    async def _heal(self, status: ShardStatus, since: int, changes: LedgerChanges) -> None:
        shard = status.shard
        try:
            reason = _beyond_help(status, since, changes)
            if reason is not None:
                _log.warning("a shard is built anew", extra={"shard": shard, "reason": reason})
                await self.keeping.reset(shard)
            elif await self._catch_up(shard, since, changes) and not status.confirmed:
                await self._confirm(status, changes)
        except IndexUnavailable:
            _log.warning("a shard could not be healed", extra={"shard": shard}, exc_info=True)

    async def _catch_up(self, shard: int, since: int, changes: LedgerChanges) -> bool:
        own = [item for item in changes.transactions if item.xid >= since and _touches(item, shard)]
        mark = Checkpoint(
            since=since,
            horizon=changes.horizon,
            count=len(own),
            ledger=changes.ledger,
            caught_up_ms=self.steps.caught_up_ms(changes.horizon),
        )
        return await self.keeping.checkpoint(shard, mark) or (
            await self._bring(shard, own) and await self.keeping.checkpoint(shard, mark)
        )

    async def _confirm(self, status: ShardStatus, changes: LedgerChanges) -> None:
        """Brings a shard what had committed when the ledger was looked at, and lets it answer if
        its history is still the same. What commits later is brought by its own worker, or healed
        as always: to wait for its end would be to wait for ever.
        """
        since = changes.horizon
        while since < changes.newest:
            committed = await self.history.committed(since)
            if not committed:
                break
            own = [item for item in committed if _touches(item, status.shard)]
            if not await self._bring(status.shard, own):
                return
            since = committed[-1].xid + 1
        if await self.keeping.confirm(status.shard, status.history):
            _log.info("a shard answers again", extra={"shard": status.shard})

    async def _bring(self, shard: int, transactions: Sequence[LedgerTransaction]) -> bool:
        """Replays those of some transactions that a shard has not; False where it takes none."""
        if not transactions:
            return True
        done = await self.keeping.done(
            shard, since=transactions[0].xid, horizon=transactions[-1].xid + 1
        )
        for group in _groups([item for item in transactions if item.xid not in done]):
            users = {user for item in group for user in item.users if shard_of(user[1]) == shard}
            entries = await self.history.items(shard, sorted(users))
            if not await self.keeping.replay(shard, [item.xid for item in group], entries):
                return False
        return True


def _beyond_help(status: ShardStatus, since: int, changes: LedgerChanges) -> str | None:
    """Why a shard cannot be caught up; None where it can."""
    if status.ledger is not None and status.ledger != changes.ledger:
        return "it is a copy of another ledger"
    if since > changes.horizon:
        # The horizon never goes back by itself: the ledger's files are older ones.
        return "it is ahead of the ledger"
    if since < changes.trimmed_below:
        return "it is too far behind"
    return None


def _touches(transaction: LedgerTransaction, shard: int) -> bool:
    return bool(transaction.shards >> shard & 1)


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
