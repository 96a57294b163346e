"""An index in one dictionary, held to the answers of the real one by tests/model/test_reads.py.

For tests of use cases that ask very many small boards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from core.board_directory import BoardDirectory
from core.clock import SystemClock
from core.errors import IndexUnavailable, ShardsMissing
from core.ordering import PREFIX_BYTES, Item, Ordering, decode_item
from core.ports import EntryReads, Freshness, IndexedEntry, IndexView, KeyRange, PageSlice, Window
from core.reading import Reading
from core.tokens import TokenSigner
from core.types import ALL_SHARDS, SHARD_COUNT, Board, EntryState, IndexChange, shard_of

_SHOWN = (EntryState.LIVE, EntryState.HIDDEN)


@dataclass
class MemoryIndex:
    """What core.ports.EntryReads gives, and `asked`: the names of those that were called.

    `lost` shards make reads fail with `error`, and `view` is what the answers say of themselves
    besides their counts.
    """

    items: dict[int, dict[int, Item]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    caught_up_ms: int = 0
    lost: set[int] = field(default_factory=set)
    error: type[ShardsMissing] = IndexUnavailable
    view: IndexView = field(default_factory=lambda: IndexView(1, 0))

    def put(
        self,
        board: Board,
        entry: tuple[int, int, int],
        *,
        arrival: int,
        state: EntryState = EntryState.LIVE,
    ) -> bytes:
        """Takes (user_id, score, subscore) for the first time; the key that it stands at."""
        user_id, score, subscore = entry
        key = Ordering.of(board.spec).key(score, subscore, arrival, user_id)
        items = self.items.setdefault(board.season.number, {})
        items[user_id] = Item(user_id, key[:PREFIX_BYTES], 1, state, 0)
        return key

    async def apply(self, xid: int, changes: Sequence[IndexChange]) -> frozenset[tuple[int, int]]:
        """Takes what is newer than what it has."""
        for change in changes:
            item = decode_item(change.item)
            known = self.items.setdefault(change.season_number, {}).get(item.user_id)
            if known is None or known.revision < item.revision:
                self.items[change.season_number][item.user_id] = item
        return frozenset()

    async def users(
        self, season_number: int, user_ids: Sequence[int], *, cutoff_bytes: int, fresh: Freshness
    ) -> tuple[Mapping[int, IndexedEntry], IndexView]:
        """The entries of some users."""
        self._ask("users", {shard_of(user_id) for user_id in user_ids})
        items = self.items.get(season_number, {})
        found = {}
        for user_id in user_ids:
            item = items.get(user_id)
            if item is not None and item.state in _SHOWN:
                cutoff = item.key[:cutoff_bytes]
                before = self._count(season_number, cutoff, shard_of(user_id))
                hidden = item.state is EntryState.HIDDEN
                found[user_id] = IndexedEntry(item.key, item.tail, before, hidden=hidden)
        return found, self._view(season_number, {shard_of(user_id) for user_id in user_ids})

    async def count_before(
        self,
        season_number: int,
        cutoffs: Sequence[bytes],
        *,
        shards: Sequence[int],
        fresh: Freshness,
    ) -> tuple[Sequence[Sequence[int]], IndexView]:
        """Counts, by shard and cutoff."""
        self._ask("count_before", shards)
        counts = [[self._count(season_number, cut, shard) for cut in cutoffs] for shard in shards]
        return counts, self._view(season_number, shards)

    async def window(
        self,
        season_number: int,
        point: bytes,
        *,
        above: int,
        below: int,
        within: KeyRange,
        fresh: Freshness,
        shards: Sequence[int] = ALL_SHARDS,
    ) -> Window:
        """What stands around a point."""
        self._ask("window", shards)
        rows = self.rows(season_number, shards)
        inside = [
            row
            for row in rows
            if row[0] >= within.low and (not within.high or row[0] < within.high)
        ]
        better = [row for row in inside if row[0] < point]
        return Window(
            before=sum(1 for key, _ in rows if key < point),
            above=better[max(0, len(better) - above) :],
            below=[row for row in inside if row[0] >= point][:below],
            view=self._view(season_number, shards),
        )

    async def window_of(
        self, season_number: int, user_id: int, *, above: int, below: int, fresh: Freshness
    ) -> tuple[IndexedEntry, Window] | None:
        """What stands around a user."""
        self._ask("window_of", ALL_SHARDS)
        found, _ = await self.users(season_number, [user_id], cutoff_bytes=32, fresh=fresh)
        if user_id not in found:
            return None
        own = found[user_id]
        rows = [row for row in self.rows(season_number) if row[0] != own.key]
        better = [row for row in rows if row[0] < own.key]
        worse = [row for row in rows if row[0] > own.key]
        view = self._view(season_number)
        above_rows = better[max(0, len(better) - above) :]
        return own, Window(len(better), above_rows, worse[:below], view)

    async def page_at(
        self, season_number: int, *, offset: int, limit: int, fresh: Freshness
    ) -> PageSlice:
        """Entries behind so many others."""
        self._ask("page_at", ALL_SHARDS)
        rows = self.rows(season_number)
        return PageSlice(
            min(offset, len(rows)), rows[offset : offset + limit], self._view(season_number)
        )

    def _ask(self, name: str, shards: Collection[int]) -> None:
        self.asked.append(name)
        if lost := self.lost.intersection(shards):
            raise self.error(lost)

    def rows(
        self, season_number: int, shards: Collection[int] = ALL_SHARDS
    ) -> list[tuple[bytes, bytes]]:
        """Everybody who counts, in rank order."""
        items = self.items.get(season_number, {}).values()
        return sorted(
            (item.key, item.tail)
            for item in items
            if item.state is EntryState.LIVE and shard_of(item.user_id) in shards
        )

    def _count(self, season_number: int, cutoff: bytes, shard: int) -> int:
        keys = [key for key, _ in self.rows(season_number)]
        return sum(1 for key in keys if key < cutoff and key[-1] % SHARD_COUNT == shard)

    def _view(self, season_number: int, shards: Collection[int] = ALL_SHARDS) -> IndexView:
        count = len(self.rows(season_number, shards))
        return replace(self.view, entry_count=count, caught_up_ms=self.caught_up_ms)


@dataclass
class OneBoard:
    """A ledger's boards, of which there is one."""

    board: Board

    async def get(self, board_id: str) -> Board:
        """It, whatever it is called."""
        return self.board


def reading_of(index: EntryReads, board: Board) -> Reading:
    """What the use cases need to read a board, without a ledger: entries in the basic view only."""
    clock = SystemClock()
    return Reading(
        boards=BoardDirectory(OneBoard(board), clock),
        entries=index,
        ledger=None,
        signer=TokenSigner([b"a secret of the tests"]),
        clock=clock,
    )
