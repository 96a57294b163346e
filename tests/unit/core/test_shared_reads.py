"""Questions that come together are asked together, and each caller hears what it would alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from core.errors import IndexUnavailable
from core.ports import Freshness, IndexedEntry, IndexView
from core.shared_reads import SharedReads
from core.types import ALL_SHARDS, shard_of

SEASON, LENGTH = 7, 24
VIEW = IndexView(1, 100)
NOT_FRESH = Freshness()


def entry(user_id: int) -> IndexedEntry:
    """The only entry that a user can have."""
    return IndexedEntry(b"%032d" % user_id, b"", before_in_shard=user_id, hidden=False)


def before(cutoff: bytes, shard: int) -> int:
    """What stands before a cutoff in a shard."""
    return cutoff[-1] * 100 + shard


@dataclass
class ScriptedIndex:
    """Knows the even users. Holds its answers until it is let go, and remembers its questions."""

    asked: list[Sequence[object]] = field(default_factory=list)
    gates: list[asyncio.Event] = field(default_factory=list)
    held: bool = False
    lost: frozenset[int] = frozenset()
    error: Exception | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def users(
        self, season_number: int, user_ids: Sequence[int], *, cutoff_bytes: int, fresh: Freshness
    ) -> tuple[Mapping[int, IndexedEntry], IndexView]:
        """The entries of the even ones."""
        await self._asked(user_ids, {shard_of(user) for user in user_ids})
        return {user: entry(user) for user in user_ids if user % 2 == 0}, VIEW

    async def count_before(
        self,
        season_number: int,
        cutoffs: Sequence[bytes],
        *,
        shards: Sequence[int],
        fresh: Freshness,
    ) -> tuple[Sequence[Sequence[int]], IndexView]:
        """As `before` says."""
        await self._asked(cutoffs, set(shards))
        return [[before(cutoff, shard) for cutoff in cutoffs] for shard in shards], VIEW

    async def _asked(self, what: Sequence[object], shards: set[int]) -> None:
        self.asked.append(what)
        self.arrived.set()
        gate = asyncio.Event()
        self.gates.append(gate)
        if self.held:
            await gate.wait()
        if self.error is not None:
            raise self.error
        if self.lost & shards:
            raise IndexUnavailable(self.lost & shards, retry_after_ms=5)

    async def until(self, count: int) -> None:
        """Waits for a number of questions."""
        async with asyncio.timeout(5):
            while len(self.asked) < count:
                self.arrived.clear()
                await self.arrived.wait()


@dataclass
class Bench:
    """Shared reads over a scripted index. `deadline_s` is what the next callers have."""

    index: ScriptedIndex = field(default_factory=ScriptedIndex)
    deadline_s: float | None = None

    def __post_init__(self) -> None:
        self.reads = SharedReads(self.index, lambda: self.deadline_s)  # type: ignore[arg-type]

    def user(self, *user_ids: int, fresh: Freshness = NOT_FRESH) -> asyncio.Task[object]:
        """Somebody asks for users."""
        read = self.reads.users(SEASON, user_ids, cutoff_bytes=LENGTH, fresh=fresh)
        return asyncio.create_task(read)

    def count(
        self, *cutoffs: bytes, shards: Sequence[int] = ALL_SHARDS
    ) -> asyncio.Task[tuple[Sequence[Sequence[int]], IndexView]]:
        """Somebody asks for counts."""
        read = self.reads.count_before(SEASON, cutoffs, shards=shards, fresh=NOT_FRESH)
        return asyncio.create_task(read)


@pytest.fixture
def bench() -> Bench:
    """A fresh one."""
    return Bench()


async def test_who_comes_together_asks_together(bench: Bench) -> None:
    """One question, each once; everybody gets what is theirs."""
    answers = await asyncio.gather(bench.user(2), bench.user(3, 4), bench.user(2))

    assert bench.index.asked == [[2, 3, 4]]
    assert answers == [({2: entry(2)}, VIEW), ({4: entry(4)}, VIEW), ({2: entry(2)}, VIEW)]


async def test_counts_are_shared_as_well(bench: Bench) -> None:
    """By the shards that are asked and the length of the cutoffs."""
    a, b, short = b"a" * 24, b"b" * 24, b"c" * 16
    calls = [bench.count(a), bench.count(b, a), bench.count(short), bench.count(a, shards=[3, 5])]
    answers = await asyncio.gather(*calls)

    assert bench.index.asked == [[a, b], [short], [a]]
    for (counts, view), (cutoffs, shards) in zip(
        answers,
        [((a,), ALL_SHARDS), ((b, a), ALL_SHARDS), ((short,), ALL_SHARDS), ((a,), (3, 5))],
        strict=True,
    ):
        assert [list(one) for one in counts] == [
            [before(cutoff, shard) for cutoff in cutoffs] for shard in shards
        ]
        assert view == VIEW


async def test_one_is_on_its_way_and_the_rest_gathers(bench: Bench) -> None:
    """The second waits for it to come back, with all who came meanwhile."""
    bench.index.held = True
    first = bench.user(2)
    await bench.index.until(1)
    late = [bench.user(3), bench.user(4)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert bench.index.asked == [[2]]

    bench.index.held = False
    bench.index.gates[0].set()
    assert await asyncio.gather(first, *late) == [
        ({2: entry(2)}, VIEW),
        ({}, VIEW),
        ({4: entry(4)}, VIEW),
    ]
    assert bench.index.asked == [[2], [3, 4]]


async def test_a_large_crowd_does_not_grow(bench: Bench) -> None:
    """A call holds up its node."""
    await asyncio.gather(*(bench.user(user) for user in range(1, 301)))

    assert [len(asked) for asked in bench.index.asked] == [128, 128, 44]


async def test_who_has_much_to_ask_or_a_token_asks_alone(bench: Bench) -> None:
    """Neither waits for others, nor do others wait for them."""
    fresh = Freshness({1: (5,)})
    await asyncio.gather(bench.user(*range(9)), bench.user(2, fresh=fresh), bench.user(4))

    assert sorted(map(len, bench.index.asked)) == [1, 1, 9]


async def test_a_lost_shard_is_lost_to_those_who_asked_for_it(bench: Bench) -> None:
    """The others are answered; who asked for it learns that it is that shard."""
    bench.index.lost = frozenset({3, 5})
    calls = (bench.user(3, 4), bench.user(6), bench.user(16 + 5), bench.user(8))
    mixed, fine, lost, other = await asyncio.gather(*calls, return_exceptions=True)

    assert (fine, other) == (({6: entry(6)}, VIEW), ({8: entry(8)}, VIEW))
    for error, shard in ((mixed, 3), (lost, 5)):
        assert isinstance(error, IndexUnavailable)
        assert (error.shards, error.retry_after_ms) == ({shard}, 5)


async def test_counts_of_a_lost_shard_are_nobodys(bench: Bench) -> None:
    """Everybody needs it, and hears of it in an error of its own."""
    bench.index.lost = frozenset({3})
    errors = await asyncio.gather(bench.count(b"a"), bench.count(b"b"), return_exceptions=True)

    assert [error.shards for error in errors if isinstance(error, IndexUnavailable)] == [{3}] * 2
    assert errors[0] is not errors[1]


async def test_who_gives_up_takes_nothing_from_others(bench: Bench) -> None:
    """The first of a crowd goes, its question stays."""
    bench.index.held = True
    first, second = bench.user(2), bench.user(4)
    await bench.index.until(1)
    first.cancel()
    await asyncio.sleep(0)
    bench.index.gates[0].set()

    assert await second == ({4: entry(4)}, VIEW)
    assert first.cancelled()


async def test_a_bug_is_everybodys(bench: Bench) -> None:
    """And the next crowd starts anew; nothing is left behind."""
    bench.index.error = ValueError("a bug")
    errors = await asyncio.gather(bench.user(2), bench.user(4), return_exceptions=True)
    bench.index.error = None

    assert [type(error) for error in errors] == [ValueError, ValueError]
    assert await bench.user(2) == ({2: entry(2)}, VIEW)
    assert not bench.reads._users
