"""Waiting lines: the rules of a flush, for any arrivals and any order of returns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from core.waiting_lines import FLUSH_SIZE_MAX, WAVES_MAX, Sealed, WaitingLines


@dataclass
class Item:
    """Somebody's submission; `number` is its place in the line of its source."""

    source: int
    number: int
    key: int
    submission_id: str
    gone: bool = False


_arrivals = st.tuples(st.integers(0, 4), st.lists(st.integers(0, 3), min_size=1, max_size=20))
_actions = st.lists(st.one_of(_arrivals, st.just("seal"), st.just("release")), max_size=60)


@dataclass
class Traffic:
    """Lines with flushes under way, and all that went."""

    lines: WaitingLines[Item] = field(default_factory=WaitingLines)
    numbers: Counter[int] = field(default_factory=Counter)
    on_the_way: list[Sealed[Item]] = field(default_factory=list)
    gone: list[Item] = field(default_factory=list)

    def add(self, source: int, keys: list[int]) -> None:
        """Somebody sends something."""
        for key in keys:
            self.numbers[source] += 1
            number = self.numbers[source]
            self.lines.add(source, [Item(source, number, key, f"{source}-{number}")])

    def seal(self) -> int:
        """A flush goes; returns its size."""
        sealed = self.lines.seal()
        busy = {item.key for other in self.on_the_way for item in other.items}
        assert not busy & {item.key for item in sealed.items}
        assert len(sealed.items) <= FLUSH_SIZE_MAX
        assert all(count <= WAVES_MAX for count in sealed.keys.values())
        self.on_the_way.append(sealed)
        self.gone += sealed.items
        return len(sealed.items)

    def release(self, place: int) -> None:
        """A flush comes back, if one is under way."""
        if self.on_the_way:
            self.lines.release(self.on_the_way.pop(place))


@given(_actions)
def test_every_item_goes_once_in_the_order_of_its_source(actions: list[object]) -> None:
    """No user or id is on its way twice, none stands in a flush too often, nobody is left over."""
    traffic = Traffic()
    for action in actions:
        match action:
            case "seal":
                traffic.seal()
            case "release":
                traffic.release(0)
            case (int(source), list(keys)):
                traffic.add(source, keys)
    while traffic.on_the_way or traffic.seal():
        traffic.release(-1)

    assert len(traffic.gone) == traffic.numbers.total()
    for source in traffic.numbers:
        order = [item.number for item in traffic.gone if item.source == source]
        assert order == sorted(order)


def test_one_id_is_on_its_way_once() -> None:
    """Copies of one submission, from one source or several, go one after the other."""
    lines: WaitingLines[Item] = WaitingLines()
    for source in range(3):
        lines.add(source, [Item(source, 1, source, "the same")])

    flushes = []
    for _ in range(3):
        sealed = lines.seal()
        assert lines.seal().items == []
        flushes.append([item.source for item in sealed.items])
        lines.release(sealed)

    assert flushes == [[0], [1], [2]]


def test_calls_that_wait_for_a_hot_user_cost_nothing_until_it_is_back() -> None:
    """Thousands of calls of one user go eight at a time, and each is looked at a few times only."""
    looks = 0

    class Watched(Item):
        def __getattribute__(self, name: str) -> object:
            nonlocal looks
            looks += name == "key"
            return super().__getattribute__(name)

    count = 4_000
    lines: WaitingLines[Watched] = WaitingLines()
    for number in range(count):
        lines.add(number, [Watched(number, 1, 7, str(number))])
    gone = 0
    while gone < count:
        sealed = lines.seal()
        assert 0 < len(sealed.items) <= WAVES_MAX
        gone += len(sealed.items)
        lines.release(sealed)

    assert looks < 12 * count


def test_who_waits_behind_those_who_have_gone_is_not_forgotten() -> None:
    """Callers of a hot user hang up while its flush is away: all that wait behind them go on."""
    lines: WaitingLines[Item] = WaitingLines()
    for source in range(WAVES_MAX):
        lines.add(source, [Item(source, 1, 7, str(source))])
    away = lines.seal()
    waiting = [Item(source, 1, 7, str(source)) for source in range(WAVES_MAX, 40)]
    for item in waiting:
        lines.add(item.source, [item])
    assert lines.seal().items == []
    for item in waiting[:WAVES_MAX]:
        item.gone = True

    left, gone_count = [], 0
    while away.items:
        lines.release(away)
        away = lines.seal()
        gone_count += len(away.gone)
        left += [item.source for item in away.items]

    assert (gone_count, left) == (WAVES_MAX, list(range(2 * WAVES_MAX, 40)))
