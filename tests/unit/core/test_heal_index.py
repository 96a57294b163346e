"""The healer, where a shard stands in its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.heal_index import HealIndex, Steps
from core.ports import Checkpoint, LedgerChanges, LedgerTransaction, ShardStatus
from core.types import IndexChange
from tests.fakes.held import HeldClock

PAGE = 10
"""Transactions that one look at the outbox gives."""


@dataclass
class LongHistory:
    """A hundred transactions on all shards, seen a page at a time."""

    async def changes(self, since: int) -> LedgerChanges:
        """The first page from there on."""
        xids = range(since, 100)[:PAGE]
        transactions = [LedgerTransaction(xid, 0xFFFF, [(1, xid)]) for xid in xids]
        return LedgerChanges(since + len(transactions), 100, 0, transactions)

    async def items(self, shard: int, users: Sequence[tuple[int, int]]) -> Sequence[IndexChange]:
        """What each user has now."""
        return [IndexChange(season, shard, b"") for season, _ in users]


@dataclass
class BusyHistory:
    """An open transaction, above which something commits between any two looks."""

    looks: int = 0

    async def changes(self, since: int) -> LedgerChanges:
        """Nothing can be passed; two transactions have committed above it."""
        return LedgerChanges(since, since + 3, 0, [])

    async def committed(self, since: int) -> Sequence[LedgerTransaction]:
        """One more, every time."""
        self.looks += 1
        return [LedgerTransaction(since + 1, 0xFFFF, [(1, since)])]

    async def items(self, shard: int, users: Sequence[tuple[int, int]]) -> Sequence[IndexChange]:
        """What each user has now."""
        return [IndexChange(season, shard, b"") for season, _ in users]


@dataclass
class Shards:
    """Sixteen shards, of which one takes nothing."""

    stuck: int
    marks: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(16), 0))
    taken: dict[int, set[int]] = field(default_factory=lambda: {n: set() for n in range(16)})
    told: list[int | None] = field(default_factory=list)
    suspect: bool = False
    confirmed: set[int] = field(default_factory=set)

    async def shards(self, season_numbers: Sequence[int]) -> Sequence[ShardStatus]:
        """All marks."""
        return [
            ShardStatus(n, 0, "", True, mark, 0, 0, False, None, b"h", not self.suspect)
            for n, mark in self.marks.items()
        ]

    async def checkpoint(self, shard: int, mark: Checkpoint) -> bool:
        """As the function in Redis does it."""
        self.told.append(mark.caught_up_ms)
        taken = [xid for xid in self.taken[shard] if mark.since <= xid < mark.horizon]
        complete = len(taken) == mark.count
        if complete and self.marks[shard] == mark.since:
            self.marks[shard] = mark.horizon
        return complete

    async def confirm(self, shard: int, history: bytes) -> bool:
        """The one that was told."""
        assert history == b"h"
        self.confirmed.add(shard)
        return True

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
    heal = HealIndex(LongHistory(), shards, HeldClock())  # type: ignore[arg-type]

    for _ in range(100 // PAGE + 1):
        await heal()

    assert {shard: mark for shard, mark in shards.marks.items() if mark != 100} == {5: 0}


async def test_a_shard_is_confirmed_while_writes_never_end() -> None:
    """It has what had committed at the look; nobody waits for what comes later."""
    shards, history = Shards(stuck=5, suspect=True), BusyHistory()

    await HealIndex(history, shards, HeldClock())()  # type: ignore[arg-type]

    assert shards.confirmed == set(range(16)) - {5}
    assert all({1, 3} <= shards.taken[shard] for shard in shards.confirmed)
    assert history.looks < 3 * 16


async def test_a_shard_is_caught_up_when_nothing_is_left_and_not_before() -> None:
    """While a backlog is worked off no time is told; at its end, that of the last look."""
    shards, clock = Shards(stuck=-1), HeldClock()
    heal = HealIndex(LongHistory(), shards, clock)  # type: ignore[arg-type]

    for _ in range(100 // PAGE - 1):
        await heal()
        clock.ms += 1_000
    assert set(shards.told) == {None}
    shards.told.clear()

    await heal()
    assert set(shards.told) == {clock.ms}


def test_an_open_transaction_holds_the_time_back() -> None:
    """Its id is below all that has committed since, and the horizon stays behind it."""
    steps = Steps()
    steps.note(10, 1_000)
    steps.note(12, 2_000)
    steps.note(12, 3_000)
    steps.note(20, 4_000)

    assert [steps.caught_up_ms(horizon) for horizon in (9, 10, 11, 12, 19, 20, 99)] == [
        None,
        1_000,
        1_000,
        3_000,
        3_000,
        4_000,
        4_000,
    ]


def test_many_looks_are_remembered_roughly() -> None:
    """Never too new a time, and never by much too old a one."""
    steps = Steps()
    for number in range(10_000):
        steps.note(number, number)

    assert len(steps.newest) <= 1_024
    for horizon in range(0, 10_000, 37):
        told = steps.caught_up_ms(horizon)
        assert told is None or told <= horizon
    assert steps.caught_up_ms(9_999) == 9_999
    assert (steps.caught_up_ms(9_000) or 0) > 8_900


def test_steps_of_another_ledger_begin_anew() -> None:
    """After a restore ids are lower: what is known of the higher ones says nothing any more."""
    steps = Steps()
    steps.note(1_000_000, 5_000, b"old")
    steps.note(800, 9_000, b"new")
    assert steps.caught_up_ms(800) == 9_000
    steps.note(700, 9_500, b"new")

    assert (steps.caught_up_ms(699), steps.caught_up_ms(700)) == (None, 9_500)
