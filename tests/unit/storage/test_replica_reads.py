"""Who is asked: a replica that is fit, the primary, and in need the replica that is left."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import pytest

from core.errors import IndexUnavailable, LedgerUnavailable
from core.ordering import KEY_BYTES
from core.ports import Freshness, IndexedEntry, IndexView, KeyRange, PageSlice, Window
from core.types import ALL_SHARDS, Source
from storage.replica_reads import Limits, ReplicaReads, Target
from tests.fakes.held import HeldClock
from tests.fakes.snapshot_making import HeldSnapshots, snapshot_of

SEASON = 1
LIMITS = Limits(lag_s=5, alone_s=300)
TOKEN = Freshness({1: (7,)})


@dataclass
class Server:
    """A server that answers by its name, or as it is told to; a replica, too, of some age."""

    name: str
    clock: HeldClock
    lag_s: float = 0.0
    told_s: float | None = None
    """How old it turns out to be when it is read; None: as known."""
    shut: bool = False
    away: bool = False
    too_deep: bool = False
    users_known: dict[int, IndexedEntry] = field(default_factory=dict)
    reads: int = 0

    def view(self) -> IndexView:
        """What it says of itself. Raises as PostgresIndex does."""
        self.reads += 1
        if self.away:
            raise IndexUnavailable(ALL_SHARDS) from LedgerUnavailable()
        if self.too_deep:
            raise IndexUnavailable(ALL_SHARDS)
        replica = self.name != "primary"
        age_s = self.lag_s if self.told_s is None else self.told_s
        as_of_ms = self.clock.now_ms() - int(age_s * 1000) if replica else 0
        return IndexView(0, 3, source=Source.DATABASE, snapshot_ms=as_of_ms)

    async def users(
        self, season_number: int, user_ids: list[int], *, cutoff_bytes: int, fresh: Freshness
    ) -> tuple[dict[int, IndexedEntry], IndexView]:
        """See `EntryReads.users`."""
        view = self.view()
        return {each: self.users_known[each] for each in user_ids if each in self.users_known}, view

    async def window_of(
        self, season_number: int, user_id: int, *, above: int, below: int, fresh: Freshness
    ) -> tuple[IndexedEntry, Window] | None:
        """See `EntryReads.window_of`."""
        view = self.view()
        entry = self.users_known.get(user_id)
        return None if entry is None else (entry, Window(0, (), (), view))

    async def page_at(
        self, season_number: int, *, offset: int, limit: int, fresh: Freshness
    ) -> PageSlice:
        """See `EntryReads.page_at`."""
        return PageSlice(0, [(self.name.encode(), b"")], self.view())

    async def window(
        self,
        season_number: int,
        point: bytes,
        *,
        above: int,
        below: int,
        within: KeyRange,
        fresh: Freshness,
        shards: tuple[int, ...] = ALL_SHARDS,
    ) -> Window:
        """See `EntryReads.window`."""
        return Window(0, (), [(self.name.encode(), b"")], self.view())


class Bench:
    """A primary and two replicas."""

    def __init__(self) -> None:
        self.clock = HeldClock()
        self.clock.ms = 1_000_000
        self.primary, self.first, self.second = [
            Server(name, self.clock) for name in ("primary", "replica-1", "replica-2")
        ]
        self.snapshots = HeldSnapshots()
        self.reads = ReplicaReads(
            self.primary,  # type: ignore[arg-type]
            [Target(each, each) for each in (self.first, self.second)],  # type: ignore[arg-type]
            self.snapshots,
            self.clock,
            LIMITS,
        )

    async def asked(self, fresh: Freshness | None = None) -> str:
        """Who answers a page."""
        page = await self.reads.page_at(SEASON, offset=0, limit=1, fresh=fresh or Freshness())
        return page.entries[0][0].decode()

    async def asked_often(self, fresh: Freshness | None = None) -> set[str]:
        """Who answers four pages."""
        return {await self.asked(fresh) for _ in range(4)}


@pytest.fixture
def bench() -> Bench:
    """All are well, and no replica is behind."""
    return Bench()


def wanting(max_staleness_ms: int) -> Freshness:
    """A caller who puts up with so much."""
    return Freshness(max_staleness_ms=max_staleness_ms)


async def test_replicas_take_turns(bench: Bench) -> None:
    """One after the other; the primary is left alone."""
    assert [await bench.asked() for _ in range(4)] == ["replica-1", "replica-2"] * 2
    assert bench.primary.reads == 0


async def test_a_token_is_the_primary_s(bench: Bench) -> None:
    """However fresh the replicas are; and nobody else's where that is away."""
    assert await bench.asked_often(TOKEN) == {"primary"}
    bench.primary.away = True
    with pytest.raises(IndexUnavailable):
        await bench.asked(TOKEN)
    assert bench.first.reads == bench.second.reads == 0


async def test_a_replica_that_is_not_fit_is_passed_over(bench: Bench) -> None:
    """Behind by more than the setting, or of no known age, or behind a breaker."""
    bench.first.lag_s = LIMITS.lag_s
    assert await bench.asked_often() == {"replica-1", "replica-2"}
    for lag_s in (LIMITS.lag_s + 0.001, inf):
        bench.first.lag_s = lag_s
        assert await bench.asked_often() == {"replica-2"}
    bench.second.shut = True
    assert await bench.asked_often() == {"primary"}


async def test_a_caller_may_want_it_fresher(bench: Bench) -> None:
    """Than one replica is, or than both are."""
    bench.first.lag_s, bench.second.lag_s = 0.5, 1.0

    assert await bench.asked_often(wanting(1_000)) == {"replica-1", "replica-2"}
    assert await bench.asked_often(wanting(999)) == {"replica-1"}
    assert await bench.asked_often(wanting(0)) == {"primary"}


async def test_who_turns_out_to_be_older_is_not_believed(bench: Bench) -> None:
    """Behind an address there may be several."""
    bench.first.told_s = bench.second.told_s = 2.0

    assert await bench.asked_often() == {"replica-1", "replica-2"}
    assert await bench.asked_often(wanting(1_999)) == {"primary"}


@pytest.mark.parametrize("trouble", ["away", "too_deep"])
async def test_what_a_replica_does_not_answer_the_primary_does(bench: Bench, trouble: str) -> None:
    """Whatever its reason is; the other replica costs no time."""
    setattr(bench.first, trouble, True)

    assert await bench.asked() == "primary"
    assert (bench.first.reads, bench.second.reads) == (1, 0)


async def test_the_least_behind_answers_alone(bench: Bench) -> None:
    """While the primary is away, past the setting, up to its own."""
    bench.primary.away = True
    bench.first.lag_s, bench.second.lag_s = LIMITS.alone_s, 60.0
    assert await bench.asked_often() == {"replica-2"}
    bench.second.shut = True
    assert await bench.asked_often() == {"replica-1"}
    bench.first.lag_s += 0.001
    with pytest.raises(IndexUnavailable):
        await bench.asked()


async def test_what_the_primary_cannot_tell_no_old_replica_is_asked_for(bench: Bench) -> None:
    """It is there, and knows more."""
    bench.primary.too_deep = True
    bench.first.lag_s = bench.second.lag_s = 60.0

    with pytest.raises(IndexUnavailable):
        await bench.asked()
    assert bench.first.reads == bench.second.reads == 0


async def test_a_younger_snapshot_goes_before_what_is_refused(bench: Bench) -> None:
    """Where the caller will not have the replica's answer; else its age is refused by who tells
    it.
    """
    bench.primary.away = bench.second.shut = True
    bench.first.lag_s = 60.0
    assert await bench.asked(wanting(20_000)) == "replica-1"
    for age_s, answer in ((61, "replica-1"), (59, None)):
        made_ms = bench.clock.now_ms() - age_s * 1000
        bench.snapshots.held[SEASON] = snapshot_of([], made_ms=made_ms)
        assert await bench.asked(wanting(60_000)) == "replica-1"
        if answer is None:
            with pytest.raises(IndexUnavailable):
                await bench.asked(wanting(20_000))
        else:
            assert await bench.asked(wanting(20_000)) == answer


async def test_a_replica_does_not_say_who_is_absent_or_hidden(bench: Bench) -> None:
    """The primary does; without it nobody."""
    entry = IndexedEntry(bytes(KEY_BYTES), bytes(6), 0)
    hidden = IndexedEntry(bytes(KEY_BYTES), bytes(6), 0, hidden=True)
    bench.second.shut = True
    bench.first.users_known = {1: entry, 2: hidden}
    bench.primary.users_known = {1: entry, 2: entry, 3: entry}
    asked = {"cutoff_bytes": KEY_BYTES, "fresh": Freshness()}

    found, view = await bench.reads.users(SEASON, [1], **asked)  # type: ignore[arg-type]
    assert (set(found), view.snapshot_ms) == ({1}, bench.clock.now_ms())
    for users in ([1, 2], [1, 3], [4]):
        found, view = await bench.reads.users(SEASON, users, **asked)  # type: ignore[arg-type]
        assert (set(found), view.snapshot_ms) == (set(users) - {4}, 0)
    around = {"above": 1, "below": 1, "fresh": Freshness()}
    assert await bench.reads.window_of(SEASON, 4, **around) is None  # type: ignore[arg-type]
    assert (await bench.reads.window_of(SEASON, 2, **around))[0] == entry  # type: ignore[arg-type, index]

    bench.primary.away = True
    with pytest.raises(IndexUnavailable) as caught:
        await bench.reads.users(SEASON, [1, 2, 19], **asked)  # type: ignore[arg-type]
    assert caught.value.shards == {2, 3}
    with pytest.raises(IndexUnavailable):
        await bench.reads.window_of(SEASON, 4, **around)  # type: ignore[arg-type]
