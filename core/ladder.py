"""The ladder of a read: the index, for what that lacks PostgreSQL, for what that lacks a snapshot.

Each rung is asked only about the shards that the one above cannot answer for, and what they say is
put together, so that a lost shard costs the others nothing and an answer says just how well it is
known. A rung that has lost more than half of what it was asked counts as lost altogether.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, TypeVar

from core.errors import ReadBehind, ShardsMissing
from core.index_views import as_old_as, joined
from core.ordering import END, KEY_BYTES
from core.ports import (
    EntryReads,
    Freshness,
    Index,
    IndexedEntry,
    IndexView,
    KeyRange,
    PageSlice,
    Window,
)
from core.shadow_reads import NO_SHADOW, Shadow
from core.types import ALL_SHARDS, IndexChange, Source, shard_of

_WAIT_S: Final = 0.05
_WAIT_STEP_S: Final = 0.005
"""A write that is on its way to the index arrives within a few ms; one that missed it takes the
healer a second, and nobody should wait for that."""
_LOOKS_MAX: Final = 3
"""How often a user is looked for who moves while the neighbours are read."""
_TOP_ENTRIES_MAX: Final = 1_000
"""What all rungs know exactly; a page beyond it is not put together from several of them."""

_T = TypeVar("_T")
_Read: TypeAlias = Callable[[EntryReads, Sequence[int]], Awaitable[_T]]


@dataclass(frozen=True, slots=True)
class Ladder:
    """core.ports.Index over three rungs. While `hurry` is open the index has only a part of the
    caller's time, so that the next ones have some as well, and while `spare` is open the database
    all but the little that a snapshot takes. `partial`: shards that no rung answers for may be left
    out, where at least their number of entries is known.
    """

    index: Index
    database: EntryReads
    snapshot: EntryReads
    shadow: Shadow = field(default=NO_SHADOW)
    hurry: Callable[[], AbstractContextManager[None]] = nullcontext
    spare: Callable[[], AbstractContextManager[None]] = nullcontext
    partial: bool = False

    def allowing_partial(self) -> Ladder:
        """The same, with leave to leave out shards."""
        return replace(self, partial=True)

    async def apply(self, xid: int, changes: Sequence[IndexChange]) -> frozenset[tuple[int, int]]:
        """See `Index.apply`; only the index follows."""
        return await self.index.apply(xid, changes)

    async def users(
        self, season_number: int, user_ids: Sequence[int], *, cutoff_bytes: int, fresh: Freshness
    ) -> tuple[Mapping[int, IndexedEntry], IndexView]:
        """See `EntryReads.users`."""

        async def read(
            rung: EntryReads, shards: Sequence[int]
        ) -> tuple[Mapping[int, IndexedEntry], IndexView]:
            own = [user_id for user_id in user_ids if shard_of(user_id) in shards]
            return await rung.users(season_number, own, cutoff_bytes=cutoff_bytes, fresh=fresh)

        climb = self._climb(season_number, fresh)
        shards = sorted({shard_of(user_id) for user_id in user_ids})
        # Never without a shard that is asked for: its users would be told that they have no entry.
        parts = await climb.read(shards, read, partial=False)
        entries = {user: entry for part, _ in parts for user, entry in part.items()}
        view = climb.view(view for _, view in parts)
        if user_ids and not view.missing:
            self.shadow.user(season_number, user_ids[0], entries.get(user_ids[0]))
        return entries, view

    async def count_before(
        self,
        season_number: int,
        cutoffs: Sequence[bytes],
        *,
        shards: Sequence[int],
        fresh: Freshness,
    ) -> tuple[Sequence[Sequence[int]], IndexView]:
        """See `EntryReads.count_before`; a shard that was left out counts as empty."""

        async def read(
            rung: EntryReads, some: Sequence[int]
        ) -> tuple[Mapping[int, Sequence[int]], IndexView]:
            counts, view = await rung.count_before(season_number, cutoffs, shards=some, fresh=fresh)
            return dict(zip(some, counts, strict=True)), view

        climb = self._climb(season_number, fresh)
        parts = await climb.read(shards, read)
        counts = {shard: count for part, _ in parts for shard, count in part.items()}
        nothing = [0] * len(cutoffs)
        return [counts.get(shard, nothing) for shard in shards], climb.view(
            view for _, view in parts
        )

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
        """See `EntryReads.window`."""

        async def read(rung: EntryReads, some: Sequence[int]) -> Window:
            return await rung.window(
                season_number,
                point,
                above=above,
                below=below,
                within=within,
                fresh=fresh,
                shards=some,
            )

        climb = self._climb(season_number, fresh)
        parts = await climb.read(shards, read)
        view = climb.view(part.view for part in parts)
        whole = Window(
            before=sum(part.before for part in parts),
            above=sorted(row for part in parts for row in part.above)[-above:] if above else (),
            below=sorted(row for part in parts for row in part.below)[:below],
            view=view,
        )
        if not point and within == KeyRange() and not view.missing:
            self.shadow.top(season_number, whole.below)
        return whole

    async def window_of(
        self, season_number: int, user_id: int, *, above: int, below: int, fresh: Freshness
    ) -> tuple[IndexedEntry, Window] | None:
        """See `EntryReads.window_of`. Beside the index it is a read of the entry, then of the
        window around it.
        """
        try:
            return await self.ask_index(
                lambda: self.index.window_of(
                    season_number, user_id, above=above, below=below, fresh=fresh
                )
            )
        except ShardsMissing as error:
            missing = error
        for _ in range(_LOOKS_MAX):
            entries, found_in = await self.users(
                season_number, [user_id], cutoff_bytes=KEY_BYTES, fresh=fresh
            )
            entry = entries.get(user_id)
            if entry is None:
                return None
            window = await self.window(
                season_number,
                entry.key,
                above=above,
                below=below + 1,
                within=KeyRange(),
                fresh=fresh,
            )
            others = [row for row in window.below if row[0] != entry.key]
            if entry.hidden or len(others) < len(window.below):
                # How well its own place is known does not matter: the window counts it again.
                view = as_old_as(window.view, replace(found_in, fewer=0, more=0))
                return entry, Window(window.before, window.above, others[:below], view)
            # The entry has moved meanwhile, and would be counted at both places.
        raise missing

    async def page_at(
        self, season_number: int, *, offset: int, limit: int, fresh: Freshness
    ) -> PageSlice:
        """See `EntryReads.page_at`. Near the top it is put together from several rungs; elsewhere
        one rung answers for all shards.
        """
        try:
            return await self.ask_index(
                lambda: self.index.page_at(season_number, offset=offset, limit=limit, fresh=fresh)
            )
        except ShardsMissing as error:
            missing = error.shards or frozenset(ALL_SHARDS)
        end = offset + limit
        if end <= _TOP_ENTRIES_MAX:
            window = await self.window(
                season_number, b"", above=0, below=end, within=KeyRange(), fresh=fresh
            )
            before = min(offset, len(window.below))
            return PageSlice(before, window.below[offset:], window.view)
        try:
            with self.spare():
                page = await self.database.page_at(
                    season_number, offset=offset, limit=limit, fresh=fresh
                )
        except ShardsMissing:
            page = await self.snapshot.page_at(
                season_number, offset=offset, limit=limit, fresh=fresh
            )
        return replace(page, view=replace(page.view, missing=missing))

    async def ask_index(self, read: Callable[[], Awaitable[_T]]) -> _T:
        """A read of the index, again for a short while if it is behind the caller's write."""
        waited_s = 0.0
        with self.hurry():
            while True:
                try:
                    return await read()
                except ReadBehind:
                    if waited_s >= _WAIT_S:
                        raise
                    await asyncio.sleep(_WAIT_STEP_S)
                    waited_s += _WAIT_STEP_S

    def _climb(self, season_number: int, fresh: Freshness) -> _Climb:
        return _Climb(self, season_number, fresh)


@dataclass(slots=True)
class _Climb:
    """One read on its way down the rungs."""

    ladder: Ladder
    season_number: int
    fresh: Freshness
    filled: set[int] = field(default_factory=set)
    """The shards that the index did not answer for."""
    left_out: IndexView | None = None
    """Of the shards that nobody answered for: the snapshot that knows how many entries they have,
    and as `more` how many these are at most."""

    async def read(
        self, shards: Sequence[int], read: _Read[_T], *, partial: bool = True
    ) -> Sequence[_T]:
        """What the rungs say that answered, each about shards of its own."""
        ladder = self.ladder
        rungs = [ladder.index, ladder.database, ladder.snapshot]
        return await self._ask(rungs, shards, read, partial=partial and ladder.partial)

    def view(self, views: Iterable[IndexView]) -> IndexView:
        """What all these say of themselves together."""
        view = joined(views)
        if not self.filled:
            return view
        if self.left_out is not None:
            view = as_old_as(view, self.left_out)
        return replace(view, missing=frozenset(self.filled))

    async def _ask(
        self, rungs: Sequence[EntryReads], shards: Sequence[int], read: _Read[_T], *, partial: bool
    ) -> Sequence[_T]:
        rung, lower = rungs[0], rungs[1:]
        try:
            if rung is self.ladder.index:
                return [await self.ladder.ask_index(lambda: read(rung, shards))]
            self.filled.update(shards)
            with self.ladder.spare() if lower else nullcontext():
                return [await read(rung, shards)]
        except ShardsMissing as error:
            if not lower and not partial:
                raise
            gap = _gap(shards, error)
        rest = [shard for shard in shards if shard not in gap]
        ways: list[Awaitable[Sequence[_T]]] = [
            self._ask(lower, gap, read, partial=partial) if lower else self._leave_out(gap)
        ]
        if rest:
            # Fewer shards each time, so that this ends; a second gap is rare.
            ways.append(self._ask(rungs, rest, read, partial=partial))
        return [part for parts in await asyncio.gather(*ways) for part in parts]

    async def _leave_out(self, shards: Sequence[int]) -> Sequence[_T]:
        """Leaves out shards that nobody answers for. Raises ShardsMissing where not even their
        number of entries is known.
        """
        counts, view = await self.ladder.snapshot.count_before(
            self.season_number, [END], shards=shards, fresh=self.fresh
        )
        more = sum(count for (count,) in counts) + view.more
        nothing = replace(view, entry_count=0, source=Source.INDEX, fewer=0, more=more)
        self.left_out = nothing if self.left_out is None else joined((self.left_out, nothing))
        return ()


def _gap(shards: Sequence[int], error: ShardsMissing) -> Sequence[int]:
    """The shards that have to be asked for elsewhere."""
    gap = [shard for shard in shards if shard in error.shards]
    # Where most are lost it is one trouble, and the few others would only be waited for.
    return gap if gap and 2 * len(gap) <= len(shards) else shards
