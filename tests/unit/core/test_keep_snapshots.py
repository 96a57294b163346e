"""Snapshots are taken of the index, of PostgreSQL where that fails, and of nothing for too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.errors import IndexUnavailable, LedgerUnavailable, Unavailable
from core.keep_snapshots import KeepSnapshots
from core.snapshots import Snapshot
from tests.fakes.held import HeldClock
from tests.fakes.snapshot_making import snapshot_of


@dataclass
class Source:
    """Gives snapshots of all seasons but some."""

    mark: int
    lost: dict[int, Unavailable] = field(default_factory=dict)
    took_ms: int = 0
    clock: HeldClock = field(default_factory=HeldClock)
    asked: list[int] = field(default_factory=list)

    async def take(self, season_number: int) -> Snapshot:
        """One that tells where it is from."""
        self.asked.append(season_number)
        self.clock.ms += self.took_ms
        if season_number in self.lost:
            raise self.lost[season_number]
        return snapshot_of([], season_number=season_number, made_ms=self.mark)


@dataclass
class Store:
    """Some seasons that are in use, and what was kept of them."""

    used: Sequence[int]
    kept: dict[int, int] = field(default_factory=dict)

    async def due(self, *, limit: int) -> Sequence[int]:
        """All that are in use."""
        return self.used[:limit]

    async def keep(self, snapshot: Snapshot) -> None:
        """Notes where it is from."""
        self.kept[snapshot.season_number] = snapshot.made_ms


async def test_what_the_index_lacks_is_taken_of_the_database() -> None:
    """What neither has keeps the snapshot that it had; the others are made all the same."""
    index = Source(1, {2: IndexUnavailable(), 3: IndexUnavailable()})
    database = Source(2, {3: LedgerUnavailable()})
    store = Store([1, 2, 3, 4])

    made = await KeepSnapshots(index, database, store, HeldClock())()

    assert (made, store.kept) == (3, {1: 1, 2: 2, 4: 1})
    assert database.asked == [2, 3]


async def test_the_database_is_read_for_a_tenth_of_the_time() -> None:
    """For a second at first; then what has to wait is taken before what was taken already."""
    index = Source(1, {number: IndexUnavailable() for number in range(10)})
    database = Source(2, took_ms=400)
    store = Store(range(10))
    keep_snapshots = KeepSnapshots(index, database, store, database.clock)

    assert (await keep_snapshots(), database.asked) == (3, [0, 1, 2])

    store.used = range(3, 10)
    database.clock.ms += 700
    assert (await keep_snapshots(), database.asked) == (0, [0, 1, 2])
    database.clock.ms += 101
    assert (await keep_snapshots(), database.asked) == (1, [0, 1, 2, 3])
    database.clock.ms += 3_600_000
    assert (await keep_snapshots(), len(database.asked)) == (3, 7)


async def test_a_round_ends() -> None:
    """However many boards there are."""
    index = Source(1)

    assert await KeepSnapshots(index, Source(2), Store(range(500)), HeldClock())() == 200
