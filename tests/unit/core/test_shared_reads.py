"""Ranks that are asked for together are read together, and each caller hears what is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import pytest

from core.errors import IndexUnavailable
from core.ports import IndexedEntry, IndexView
from core.reading import Ranks, Wanted
from core.shared_reads import SharedReads

VIEW = IndexView(1, 100)


def ranked(user_id: int) -> tuple[IndexedEntry, int]:
    """The only entry and rank that a user can have."""
    return IndexedEntry(b"%032d" % user_id, b"", before_in_shard=user_id, hidden=False), user_id + 7


@dataclass
class Bench:
    """Knows the even users. Holds its answers until it is let go, and remembers its questions.
    `deadline_s` is what the next callers have.
    """

    asked: list[list[int]] = field(default_factory=list)
    gates: list[asyncio.Event] = field(default_factory=list)
    held: bool = False
    error: Exception | None = None
    deadline_s: float | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.together = SharedReads(lambda: self.deadline_s)

    def rank(self, user_id: int, kind: Hashable = 1) -> asyncio.Task[Ranks]:
        """Somebody asks for a user."""
        return asyncio.create_task(self.together.answer(kind, (user_id, b""), self._read))

    async def _read(self, wanted: Sequence[Wanted]) -> Ranks:
        users = [user for user, _ in wanted]
        self.asked.append(users)
        self._arrived.set()
        gate = asyncio.Event()
        self.gates.append(gate)
        if self.held:
            await gate.wait()
        if self.error is not None:
            raise self.error
        return {user: ranked(user) for user in users if user % 2 == 0}, VIEW

    async def until(self, count: int) -> None:
        """Waits for a number of questions."""
        async with asyncio.timeout(5):
            while len(self.asked) < count:
                self._arrived.clear()
                await self._arrived.wait()


@pytest.fixture
def bench() -> Bench:
    """A fresh one."""
    return Bench()


async def test_who_comes_together_asks_together(bench: Bench) -> None:
    """One question, each user once; the answer has all who are there."""
    answers = await asyncio.gather(bench.rank(2), bench.rank(3), bench.rank(4), bench.rank(2))

    assert bench.asked == [[2, 3, 4]]
    assert answers == [({2: ranked(2), 4: ranked(4)}, VIEW)] * 4


async def test_each_kind_is_a_question_of_its_own(bench: Bench) -> None:
    """Another season or another way to count is none of theirs."""
    await asyncio.gather(bench.rank(2), bench.rank(4, kind=2), bench.rank(6))

    assert sorted(bench.asked) == [[2, 6], [4]]


async def test_two_are_on_their_way_and_the_rest_gathers(bench: Bench) -> None:
    """A third waits for one to come back, with all who came meanwhile."""
    bench.held = True
    early = []
    for count, user in enumerate((2, 4), start=1):
        early.append(bench.rank(user))
        await bench.until(count)
    late = [bench.rank(user) for user in (6, 8)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert bench.asked == [[2], [4]]

    bench.held = False
    bench.gates[1].set()
    await asyncio.gather(early[1], *late)
    assert bench.asked == [[2], [4], [6, 8]]
    bench.gates[0].set()
    assert await early[0] == ({2: ranked(2)}, VIEW)


async def test_who_comes_right_after_a_crowd_waits_for_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However idle the loop is, and though nobody is on the way."""
    await asyncio.gather(*(bench.rank(user) for user in range(2, 18, 2)))
    ends: list[Callable[[], object]] = []
    monkeypatch.setattr(
        asyncio.get_running_loop(), "call_later", lambda _wait_s, end: ends.append(end)
    )

    late = [bench.rank(20)]
    for _ in range(20):
        await asyncio.sleep(0)
    late.append(bench.rank(22))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(bench.asked) == 1
    (end,) = ends
    end()
    await bench.until(2)

    assert bench.asked[1] == [20, 22]
    await asyncio.gather(*late)


async def test_they_wait_by_how_long_crowds_take(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the answer of the last one on."""
    loop = asyncio.get_running_loop()
    now_s = [loop.time()]
    monkeypatch.setattr(loop, "time", lambda: now_s[0])
    monkeypatch.setattr("core.lull.time.monotonic", lambda: now_s[0])
    waits_s: list[float] = []
    monkeypatch.setattr(loop, "call_later", lambda wait_s, _end: waits_s.append(wait_s))
    bench.held = True
    crowd = [bench.rank(user) for user in range(2, 18, 2)]
    await bench.until(1)

    now_s[0] += 0.014
    bench.gates[0].set()
    await asyncio.gather(*crowd)
    now_s[0] += 0.001
    early = bench.rank(20)
    for _ in range(20):
        await asyncio.sleep(0)

    # The newest counts 0.3 of 14 ms, twice of which they wait.
    assert waits_s == [pytest.approx(0.0074)]
    assert len(bench.asked) == 1
    early.cancel()


async def test_who_comes_long_after_an_answer_waits_for_nobody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a crowd went less than 50 ms ago."""
    now_s = [100.0]
    monkeypatch.setattr("core.lull.time.monotonic", lambda: now_s[0])
    await asyncio.gather(*(bench.rank(user) for user in range(2, 18, 2)))
    waits_s: list[float] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda wait_s, _end: waits_s.append(wait_s))

    now_s[0] += 0.0151
    assert await bench.rank(20) == ({20: ranked(20)}, VIEW)

    assert waits_s == []


async def test_a_crowd_goes_beside_another_once_it_is_as_large(bench: Bench) -> None:
    """Fewer are not worth what it costs whatever its size; they go when the other is back."""
    bench.held = True
    first = [bench.rank(user) for user in (2, 4, 6)]
    await bench.until(1)
    late = [bench.rank(user) for user in (8, 10)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(bench.asked) == 1

    late.append(bench.rank(12))
    await bench.until(2)
    assert bench.asked[1] == [8, 10, 12]

    last = bench.rank(14)
    bench.gates[0].set()
    bench.gates[1].set()
    await bench.until(3)
    bench.gates[2].set()
    await asyncio.gather(*first, *late, last)


async def test_a_large_crowd_does_not_grow(bench: Bench) -> None:
    """A call holds up its node."""
    await asyncio.gather(*(bench.rank(user) for user in range(1, 301)))

    assert [len(asked) for asked in bench.asked] == [128, 128, 44]


async def test_trouble_is_told_to_each(bench: Bench) -> None:
    """In an error of its own, which says what is lost and when to come again."""
    bench.error = IndexUnavailable({3}, retry_after_ms=5)
    errors = await asyncio.gather(bench.rank(2), bench.rank(4), return_exceptions=True)

    assert [
        (error.shards, error.retry_after_ms)
        for error in errors
        if isinstance(error, IndexUnavailable)
    ] == [({3}, 5)] * 2
    assert errors[0] is not errors[1]


async def test_who_gives_up_takes_nothing_from_others(bench: Bench) -> None:
    """The first of a crowd goes, its question stays."""
    bench.held = True
    first, second = bench.rank(2), bench.rank(4)
    await bench.until(1)
    first.cancel()
    await asyncio.sleep(0)
    bench.gates[0].set()

    assert await second == ({2: ranked(2), 4: ranked(4)}, VIEW)
    assert first.cancelled()


async def test_a_bug_is_everybodys(bench: Bench) -> None:
    """And the next crowd starts anew."""
    bench.error = ValueError("a bug")
    errors = await asyncio.gather(bench.rank(2), bench.rank(4), return_exceptions=True)
    bench.error = None

    assert [type(error) for error in errors] == [ValueError, ValueError]
    assert await bench.rank(2) == ({2: ranked(2)}, VIEW)


async def test_kinds_that_nobody_asks_for_are_forgotten(bench: Bench) -> None:
    """Of a thousand seasons no more are remembered than can be busy."""
    for kind in range(1_000):
        await bench.rank(2, kind)

    assert len(bench.together._gatherings) <= 256
