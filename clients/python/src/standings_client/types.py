"""The words of Standings as small frozen values; nothing of protobuf shows through.

Times are aware datetimes in UTC, spans are timedeltas, scores and ranks are ints, and metadata is
a plain dict whose numbers come back as floats, because the service keeps them as doubles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any, Self, TypeAlias, TypedDict

from standings_client.errors import StandingsError

Metadata: TypeAlias = Mapping[str, Any]


class _WireEnum(IntEnum):
    """An enum of the contract. A value newer than this client reads as UNSPECIFIED, which is 0."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        return cls(0) if isinstance(value, int) and value != 0 else None


class SortOrder(_WireEnum):
    """Which end of a number is the better one; a new board takes DESCENDING."""

    UNSPECIFIED = 0
    DESCENDING = 1
    ASCENDING = 2


class Operator(_WireEnum):
    """How a submission changes the entry it meets; a new board takes BEST."""

    UNSPECIFIED = 0
    BEST = 1
    SET = 2
    INCREMENT = 3
    DECREMENT = 4


class RankMode(_WireEnum):
    """How equal results are numbered: ORDINAL 1, 2, 3 or COMPETITION 1, 1, 3."""

    UNSPECIFIED = 0
    ORDINAL = 1
    COMPETITION = 2


class Outcome(_WireEnum):
    """What became of a submission."""

    UNSPECIFIED = 0
    APPLIED = 1
    UNCHANGED = 2
    DUPLICATE = 3
    HELD = 4
    REJECTED = 5


class Source(_WireEnum):
    """Where an answer was read."""

    UNSPECIFIED = 0
    INDEX = 1
    CACHE = 2
    DATABASE = 3
    SNAPSHOT = 4
    ARCHIVE = 5


class Exactness(_WireEnum):
    """How sharply the ranks of an answer are known."""

    UNSPECIFIED = 0
    EXACT = 1
    INTERVAL = 2


class EntryView(_WireEnum):
    """How much of each entry an answer carries; FULL adds what only the database knows."""

    UNSPECIFIED = 0
    BASIC = 1
    FULL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A leaderboard's definition.

    The server sets `current_season_id`, the times and `etag`, and ignores what a caller puts there
    in a new board. Bounds are inclusive; None: no bound.
    """

    board_id: str
    title: str = ""
    sort_order: SortOrder = SortOrder.DESCENDING
    subscore_sort_order: SortOrder = SortOrder.DESCENDING
    operator: Operator = Operator.BEST
    min_score: int | None = None
    max_score: int | None = None
    client_writes: bool = False
    metadata: Metadata | None = None
    current_season_id: str = ""
    create_time: datetime | None = None
    update_time: datetime | None = None
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One user's standing in one season.

    Ranks are 1-based and 0 where the answer carries none; the true rank lies in `rank_low` to
    `rank_high`. `submission_count`, `metadata` and `update_time` come with EntryView.FULL only,
    `list_rank` with batch_get_entries only.
    """

    user_id: int
    rank: int
    rank_low: int
    rank_high: int
    score: int
    subscore: int
    achieve_time: datetime | None
    submission_count: int
    metadata: Metadata | None
    update_time: datetime | None
    list_rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMeta:
    """What an answer says about itself: how fresh, how sharp, how whole."""

    as_of: datetime | None
    source: Source
    exactness: Exactness
    stale: bool
    staleness: timedelta
    epoch: int
    shards_answered: int
    shards_missing: tuple[int, ...]
    season_id: str
    entry_count: int


class ReadOptions(TypedDict, total=False):
    """How a read is to be answered; every key may be left out.

    `max_staleness`: refuse (Unavailable, reason STALENESS) rather than answer with something
    older. `consistency_token`: from one's own submission; the answer shows it or is refused.
    `allow_partial`: leave out shards that do not answer. `season_id`: empty means the current one.
    """

    rank_mode: RankMode
    view: EntryView
    consistency_token: str
    max_staleness: timedelta
    allow_partial: bool
    season_id: str


class SubmitOptions(TypedDict, total=False):
    """What a submission may say beyond board, user and score; see Submission."""

    subscore: int
    submission_id: str | None
    operator: Operator | None
    metadata: Metadata | None
    return_rank: bool


@dataclass(frozen=True, slots=True)
class Submission:
    """One score event.

    `submission_id` is a UUIDv7 under which the event counts once; None: the client makes one and
    keeps it over its retries. `operator` None: the board's. `metadata`: at most 1 KiB as JSON.
    `return_rank` asks for the new rank, which costs a read of the index.
    """

    board_id: str
    user_id: int
    score: int
    subscore: int = 0
    submission_id: str | None = None
    operator: Operator | None = None
    metadata: Metadata | None = None
    return_rank: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitResult:
    """What became of one score event.

    `first_outcome` says, beside DUPLICATE, what happened the first time; else it is `outcome`.
    `entry` and `previous_entry` are None where the user has or had none. `indexed` False: the
    index will show it within seconds; a read with `consistency_token` shows it or is refused.
    """

    outcome: Outcome
    first_outcome: Outcome
    entry: Entry | None
    previous_entry: Entry | None
    indexed: bool
    consistency_token: str
    submission_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSubmitResult:
    """What became of a batch: one item per submission, in the same order.

    An item is a result, or the error that refused it; errors here are values and not raised.
    """

    results: tuple[SubmitResult | StandingsError, ...]
    consistency_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryAnswer:
    """One user's entry, with its rank, and what the answer says about itself."""

    entry: Entry
    meta: ReadMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesAnswer:
    """The entries found, best first, and the users without one, in the order asked."""

    entries: tuple[Entry, ...]
    missing_user_ids: tuple[int, ...]
    meta: ReadMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPage:
    """A page of a board, best first. `next_page_token` is empty at the end of the board."""

    entries: tuple[Entry, ...]
    next_page_token: str
    meta: ReadMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardPage:
    """A page of boards by name. `next_page_token` is empty at the end."""

    boards: tuple[Board, ...]
    next_page_token: str
