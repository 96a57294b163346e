"""What the rules need from the world, as bare nouns. Adapters live in storage/ and sharding/."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from core.flushes import Flush, FlushResult
from core.types import (
    ALL_SHARDS,
    Board,
    BoardSpec,
    IndexChange,
    Source,
    Standing,
)
from core.values import value


class Clock(Protocol):
    """Time, handed in so that tests can hold it still."""

    def now_ms(self) -> int:
        """Wall-clock time in ms since the epoch; for answers, never for order."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start, never going back; for deadlines and ages."""


# --- the truth ------------------------------------------------------------------------------


class Boards(Protocol):
    """Board definitions. Each method raises LedgerUnavailable when PostgreSQL cannot answer."""

    async def create(self, spec: BoardSpec) -> Board:
        """Stores a board with one open season. Raises BoardExists."""

    async def get(self, board_id: str) -> Board:
        """The board of that name. Raises BoardNotFound."""

    async def list(self, *, after: str, limit: int, prefix: str = "") -> Sequence[Board]:
        """Up to `limit` boards in the order of their names, those after `after` whose names begin
        with `prefix`.
        """

    async def update(self, board_id: str, changes: Mapping[str, object], *, etag: str) -> Board:
        """Changes the named BoardSpec fields. Raises BoardNotFound, EtagMismatch."""

    async def delete(self, board_id: str, *, etag: str) -> Board:
        """Ends a board; entries are removed by a job. Raises BoardNotFound, EtagMismatch."""


class Ledger(Protocol):
    """The record of all submissions and the entries they lead to."""

    def require(self) -> None:
        """Raises LedgerUnavailable while it is known to take nothing."""

    async def record(
        self, flush: Flush, arrived: Callable[[], object] = lambda: None
    ) -> FlushResult:
        """Records a flush and returns a result for every place.

        A flush without an arrival is given the next one (PROTOCOL P1) before anything is recorded,
        and `arrived` is called once it has it, or will have none. Until then no flush may be
        begun that was sealed later.

        A submission that was recorded before gets its first outcome; one that the database
        refuses fails alone. Where a board has another version than the flush was made for, the
        result of its whole transaction is BoardChanged. Never raises for the store's trouble:
        that is a result, too, and it is unknown then whether the submission was stored.
        """

    async def standings(
        self, season_number: int, user_ids: Sequence[int]
    ) -> Mapping[int, Standing]:
        """The full entries of some users, by user; one read by key. Raises LedgerUnavailable."""


@value
class LedgerTransaction:
    """One committed transaction that changed entries, from the outbox.

    `users` holds (season_number, user_id) pairs; `shards` is the bit mask of their shards.
    """

    xid: int
    shards: int
    users: Sequence[tuple[int, int]]


@value
class LedgerChanges:
    """Every transaction with since <= xid < horizon, none of which can still appear later. All
    that had committed by then, in whatever order, have ids below `newest`.

    Those below `trimmed_below` may have been forgotten: a shard that has not come so far cannot
    be caught up and has to be built anew.
    """

    horizon: int
    newest: int
    trimmed_below: int
    transactions: Sequence[LedgerTransaction]
    ledger: bytes = b""


@dataclass(frozen=True, slots=True)
class LedgerPoint:
    """A point in the life of a ledger: every transaction below `horizon` has ended, and all that
    had committed by then have ids below `newest`.

    `ledger` are 8 bytes that no other database cluster has, nor this one after a promotion or a
    restore: transaction ids of two ledgers say nothing of each other.
    """

    horizon: int
    ledger: bytes
    newest: int = 0


@dataclass(frozen=True, slots=True)
class LoadedChunk:
    """Up to `limit` entries of a (season, shard): their items end to end, in user order."""

    items: bytes
    last_user_id: int
    count: int


class LedgerHistory(Protocol):
    """What the index is caught up and built from; always the primary."""

    async def horizon(self) -> int:
        """Every transaction below this id has ended. Raises LedgerUnavailable."""

    async def point(self) -> LedgerPoint:
        """Which ledger it is, and how far it has come. Raises LedgerUnavailable."""

    async def changes(self, since: int) -> LedgerChanges:
        """The outbox from `since` on. Raises LedgerUnavailable."""

    async def committed(self, since: int) -> Sequence[LedgerTransaction]:
        """The first transactions from `since` on, by id, of those that have committed by now.
        Others may still appear between them.
        """

    async def items(self, shard: int, users: Sequence[tuple[int, int]]) -> Sequence[IndexChange]:
        """The current entries of some (season_number, user_id) of one shard."""

    async def load(
        self, season_number: int, shard: int, *, after_user_id: int, limit: int
    ) -> LoadedChunk:
        """The next entries of a (season, shard), deleted and hidden ones included."""

    async def season_numbers(self, *, older_than_s: float = 0) -> Sequence[int]:
        """The seasons that the index is to hold, those begun so long ago."""


class Retention(Protocol):
    """What the ledger makes ahead of time, makes up for and lets go of. Each raises
    LedgerUnavailable.
    """

    async def make_partitions(self) -> None:
        """Makes the partitions for the submission ids of the next days."""

    async def drop_partitions(self) -> None:
        """Drops those whose ids have been refused for a day."""

    async def trim_outbox(self) -> None:
        """Forgets transactions older than 24 hours."""

    async def fill_rank_keys(self, shard: int, *, limit: int) -> int:
        """Gives some entries that lack it the key that the ledger itself sorts them by, and returns
        how many; 0: none was left, or those were being written.
        """

    async def deleted_seasons(self) -> Sequence[int]:
        """The seasons of deleted boards whose entries are still there; no write can add to
        them any more.
        """

    async def purge(self, season_number: int, shard: int) -> bool:
        """Deletes some of a season's entries; True when none are left in that shard."""

    async def mark_purged(self, season_number: int) -> None:
        """Notes that a deleted season has no entries left."""


class Leadership(Protocol):
    """One runner at a time among all processes."""

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` whenever this process is elected, and cancels it when it no longer is;
        never returns by itself.
        """


# --- the index ------------------------------------------------------------------------------


@value
class IndexedEntry:
    """A user's entry: its 32-byte key, the six last bytes of its value, and how many entries of
    its own shard stand before it by the asked rank mode, at the same instant.

    A hidden entry is told too, with the place it would have; it counts for nobody else.
    """

    key: bytes
    tail: bytes
    before_in_shard: int
    hidden: bool = False


@value
class IndexView:
    """Of which state of the index an answer speaks; counts are over the shards that answered.

    Everything committed before `caught_up_ms` (wall clock, by the last checkpoint of the shard
    that is furthest behind) is in it; 0 where a shard does not know.

    `missing` are the shards that the index itself did not answer for: `source` did in their place.
    Any number of entries before a place that is told is too high by `fewer` at most and too low by
    `more` at most; `entry_count` is about right where the source is not the index. `snapshot_ms` is
    when the oldest snapshot was made that was read, by the wall clock, or of when the state of a
    replica was that was read; 0: none was.
    """

    epoch: int
    entry_count: int
    caught_up_ms: int = 0
    source: Source = Source.INDEX
    missing: frozenset[int] = frozenset()
    fewer: int = 0
    more: int = 0
    snapshot_ms: int = 0


@value
class PageSlice:
    """Entries in rank order as (key, tail) pairs; `before` entries stand before the first one."""

    before: int
    entries: Sequence[tuple[bytes, bytes]]
    view: IndexView


@value
class KeyRange:
    """The keys from `low` (inclusive) to `high` (exclusive), by plain byte order. Each is a key or
    the beginning of one; b"": open.
    """

    low: bytes = b""
    high: bytes = b""


@value
class Window:
    """What stands around a point of a board: `before` entries in all stand before the point.

    `above` are those next to it on the better side, `below` those from it on, both as (key, tail)
    pairs in rank order.
    """

    before: int
    above: Sequence[tuple[bytes, bytes]]
    below: Sequence[tuple[bytes, bytes]]
    view: IndexView


@value
class Freshness:
    """Transactions that a read must show: per shard the ids to look for, and the ledger that they
    are of, by its name or the beginning of it (b"": any). `max_staleness_ms` is what the caller
    puts up with, for who may choose between states of several ages; None: any.
    """

    xids: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    ledger: bytes = b""
    max_staleness_ms: int | None = None


class EntryReads(Protocol):
    """The sorted entries of every season over 16 shards, as somebody knows them.

    Each read is about some shards, all of them unless said otherwise, and says nothing of the
    others. It raises ShardsMissing with those that it cannot answer for: IndexUnbuilt where they
    do not hold the season, ReadBehind where they lack a transaction of `fresh`, IndexUnavailable
    otherwise.
    """

    async def users(
        self, season_number: int, user_ids: Sequence[int], *, cutoff_bytes: int, fresh: Freshness
    ) -> tuple[Mapping[int, IndexedEntry], IndexView]:
        """The entries of some users, those that exist; the view is of their shards alone. Cost: one
        round trip to their nodes.
        """

    async def count_before(
        self,
        season_number: int,
        cutoffs: Sequence[bytes],
        *,
        shards: Sequence[int],
        fresh: Freshness,
    ) -> tuple[Sequence[Sequence[int]], IndexView]:
        """For each shard asked, in order: for each cutoff, the entries with a smaller key.

        A cutoff is a key or the beginning of one. Cost: one round trip to the shards' nodes.
        """

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
        """Up to `above` entries before `point`, nearest ones, and up to `below` from it on, all of
        them within a range.

        A point is a key or the beginning of one; b"": the start. Behind a key stands
        key and a zero byte. Cost: one round trip, one more where the entries wanted are spread very
        unevenly over the shards.
        """

    async def window_of(
        self,
        season_number: int,
        user_id: int,
        *,
        above: int,
        below: int,
        fresh: Freshness,
    ) -> tuple[IndexedEntry, Window] | None:
        """A user's entry and what stands around it, the entry itself left out; None without one.

        The entry and its own shard are of one instant. Cost: two round trips, and one more as
        for `window`.
        """

    async def page_at(
        self,
        season_number: int,
        *,
        offset: int,
        limit: int,
        fresh: Freshness,
    ) -> PageSlice:
        """Up to `limit` entries in rank order after the first `offset`, about there where the view
        is not exact. Cost: one round trip near the top, two anywhere else; up to three more where
        shards are uneven.
        """


class Index(EntryReads, Protocol):
    """The index: what it is asked, and how it follows the ledger."""

    async def apply(self, xid: int, changes: Sequence[IndexChange]) -> frozenset[tuple[int, int]]:
        """Makes a committed transaction visible; applying again or out of order is harmless.

        Returns the (season_number, shard) pairs that did not take it; never raises for them.
        Cost: one round trip, one function call a shard, pipelined by node.
        """


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """A shard's own account. `checkpoint` None: its node holds nothing of it. `ledger` is the one
    that it is a copy of; None: it does not know.

    `history` names the writes that its node has seen: another one goes on after a failover, which
    may have taken acknowledged writes back. Until that is `confirmed` the shard answers nothing.
    """

    shard: int
    slot: int
    node_address: str
    reachable: bool
    checkpoint: int | None
    checkpoint_time_ms: int | None
    entry_count: int
    building: bool
    ledger: bytes | None = None
    history: bytes = b""
    confirmed: bool = True


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A step of a shard's mark, from `since` to `horizon`, over `count` transactions of `ledger`.

    Everything committed before `caught_up_ms` is below `horizon`; None: nobody knows a later time.
    """

    since: int
    horizon: int
    count: int
    ledger: bytes
    caught_up_ms: int | None


class IndexKeeping(Protocol):
    """Keeping the index equal to the ledger: checkpoints and builds, one shard at a time."""

    async def shards(self, season_numbers: Sequence[int]) -> Sequence[ShardStatus]:
        """All 16, in order; never raises. Cost: one round trip."""

    async def unbuilt(self, season_numbers: Sequence[int]) -> Sequence[tuple[int, int]]:
        """The (season_number, shard) pairs that cannot be read: no guard, or a broken one.
        Pairs whose node does not answer are left out.
        """

    async def replay(self, shard: int, xids: Sequence[int], changes: Sequence[IndexChange]) -> bool:
        """Applies entries on behalf of several transactions; False when the shard did not take
        them.
        """

    async def done(self, shard: int, *, since: int, horizon: int) -> frozenset[int]:
        """The transactions with since <= xid < horizon that the shard has."""

    async def checkpoint(self, shard: int, mark: Checkpoint) -> bool:
        """Moves the shard's mark if it has all transactions between; False when it has not, or when
        somebody else moved it.
        """

    async def confirm(self, shard: int, history: bytes) -> bool:
        """Lets a shard answer: all that had committed when this history went on there already is in
        it. False when another one goes on there now.
        """

    async def begin(
        self, season_number: int, shard: int, *, token: str, start: LedgerPoint
    ) -> bool:
        """Starts a new copy of a (season, shard); from now on applies write to it too. A shard
        without a mark gets its first there, in that ledger.
        """

    async def load(
        self, season_number: int, shard: int, *, token: str, chunk: int, items: bytes
    ) -> bool:
        """Adds chunk number `chunk` (0-based) to the copy; False when the copy is not the one of
        `token` or expects another chunk.
        """

    async def swap(self, season_number: int, shard: int, *, token: str, chunks: int) -> bool:
        """Puts the whole copy in place; False when it is not whole."""

    async def reset(self, shard: int) -> None:
        """Forgets how far a shard has come: all its seasons have to be built anew. Raises
        IndexUnavailable.
        """

    async def drop(self, season_number: int) -> None:
        """Forgets a season. Raises IndexUnavailable when a shard did not."""
