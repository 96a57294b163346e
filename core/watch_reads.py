"""What is read for the watchers of a season, and how much of that a worker does at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from core.errors import BoardNotFound, StandingsError
from core.ordering import ranks_of
from core.ports import IndexedEntry, IndexView, KeyRange
from core.reading import Question, Reading
from core.types import Board, RankedEntry, RankMode
from core.watch_states import WatchTarget

_LOOKUP_S: Final = 0.1
"""How long a read waits for PostgreSQL to tell the board's season; the index answers without."""
_LOOKUP_PAUSE_S: Final = 1.0
"""The time between two lookups of a season, also after one that failed; BoardDirectory trusts what
it knows as long."""

Found: TypeAlias = tuple[Mapping[WatchTarget, Sequence[RankedEntry]], IndexView]
"""The entries of each target, best first, and the state of the season they are of."""


@dataclass(frozen=True, slots=True)
class WatchSlots:
    """How much is read at once for all watches of a worker; what is more waits for its turn.

    Lists of users cost more than tops, and have slots of their own so as not to hold those up.
    """

    lookups: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    tops: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    users: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))


class SeasonBoard:
    """The board of a watched season, looked up once a second at most."""

    def __init__(self, reading: Reading, board: Board, slots: WatchSlots) -> None:
        self._reading = reading
        self._board = board
        self._slots = slots
        self._due_s = reading.clock.monotonic_s()

    async def get(self) -> Board:
        """The board as of now; as known before, where it was looked up within the last second or
        cannot be, for whatever reason. Raises BoardNotFound.
        """
        clock = self._reading.clock
        if clock.monotonic_s() >= self._due_s:
            try:
                async with asyncio.timeout(_LOOKUP_S), self._slots.lookups:
                    self._board = await self._reading.boards.get(self._board.spec.board_id)
            except BoardNotFound:
                raise
            except (StandingsError, TimeoutError):
                # The index answers without PostgreSQL; only a new season is told later.
                pass
            self._due_s = clock.monotonic_s() + _LOOKUP_PAUSE_S
        return self._board


class SeasonReader:
    """Reads a season again and again. An entry that stays the same stays the same object from
    one read to the next, so that states share it.
    """

    def __init__(self, reading: Reading, mode: RankMode) -> None:
        self._reading = reading
        self._mode = mode
        self._before: dict[tuple[bytes, bytes, int], RankedEntry] = {}

    async def tops(self, question: Question, targets: Sequence[WatchTarget]) -> Found:
        """The tops of some sizes. Cost: one round trip. Raises Unavailable."""
        window = await question.entries.window(
            question.season.number,
            b"",
            above=0,
            below=max(target.top_count for target in targets),
            within=KeyRange(),
            fresh=question.fresh,
        )
        ranks = ranks_of([key for key, _ in window.below], self._mode)
        entries = self._entries(
            question,
            [(key, tail, rank) for (key, tail), rank in zip(window.below, ranks, strict=True)],
        )
        return {target: entries[: target.top_count] for target in targets}, window.view

    async def users(self, question: Question, targets: Sequence[WatchTarget]) -> Found:
        """Some lists of users, all of them read together. Cost: two round trips. Raises
        Unavailable.
        """
        user_ids = sorted({user_id for target in targets for user_id in target.user_ids})
        ranks, view = await self._reading.rank(question, user_ids, self._mode)
        best = sorted(ranks.values(), key=_key_of)
        entries = self._entries(question, [(each.key, each.tail, rank) for each, rank in best])
        places = {entry.standing.user_id: place for place, entry in enumerate(entries)}
        found = {
            target: [
                entries[place]
                for place in sorted(places[each] for each in target.user_ids if each in places)
            ]
            for target in targets
        }
        return found, view

    def _entries(
        self, question: Question, names: Sequence[tuple[bytes, bytes, int]]
    ) -> Sequence[RankedEntry]:
        """Entries by key, tail and rank."""
        ordering, before = question.ordering, self._before
        entries = [
            before.get(name) or RankedEntry(ordering.standing(name[0], name[1]), name[2])
            for name in names
        ]
        self._before = dict(zip(names, entries, strict=True))
        return entries


def _key_of(ranked: tuple[IndexedEntry, int]) -> bytes:
    return ranked[0].key
