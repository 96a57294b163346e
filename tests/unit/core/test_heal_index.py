"""The healer, where a shard stands in its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.heal_index import HealIndex
from core.ports import LedgerChanges, LedgerTransaction, ShardStatus
from core.types import IndexChange

PAGE = 10
"""Transactions that one look at the outbox gives."""


@dataclass
class LongHistory:
    """A hundred transactions on all shards, seen a page at a time."""

    async def changes(self, since: int) -> LedgerChanges:
        """The first page from there on."""
        xids = range(since, 100)[:PAGE]
        transactions = [LedgerTransaction(xid, 0xFFFF, [(1, xid)]) for xid in xids]
        return LedgerChanges(since + len(transactions), 0, transactions)

    async def items(self, shard: int, users: Sequence[tuple[int, int]]) -> Sequence[IndexChange]:
        """What each user has now."""
        return [IndexChange(season, shard, b"") for season, _ in users]


@dataclass
class Shards:
    """Sixteen shards, of which one takes nothing."""

    stuck: int
    marks: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(16), 0))
    taken: dict[int, set[int]] = field(default_factory=lambda: {n: set() for n in range(16)})

    async def shards(self, season_numbers: Sequence[int]) -> Sequence[ShardStatus]:
        """All marks."""
        return [ShardStatus(n, 0, "", True, mark, 0, 0, False) for n, mark in self.marks.items()]

    async def checkpoint(self, shard: int, *, since: int, horizon: int, count: int) -> bool:
        """As the function in Redis does it."""
        complete = len([xid for xid in self.taken[shard] if since <= xid < horizon]) == count
        if complete and self.marks[shard] == since:
            self.marks[shard] = horizon
        return complete

    async def done(self, shard: int, *, since: int, horizon: int) -> frozenset[int]:
        """What it has."""
        return frozenset(xid for xid in self.taken[shard] if since <= xid < horizon)

    async def replay(self, shard: int, xids: Sequence[int], changes: Sequence[IndexChange]) -> bool:
        """Takes it, or not."""
        if shard == self.stuck:
            return False
        self.taken[shard].update(xids)
        return True


async def test_a_shard_that_takes_nothing_holds_up_no_other() -> None:
    """The others reach the end, however far behind the stuck one stays."""
    shards = Shards(stuck=5)
    heal = HealIndex(LongHistory(), shards)  # type: ignore[arg-type]

    for _ in range(100 // PAGE + 1):
        await heal()

    assert {shard: mark for shard, mark in shards.marks.items() if mark != 100} == {5: 0}
