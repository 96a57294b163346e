"""The words of Standings as small frozen values; nothing of protobuf shows through.

Times are aware datetimes in UTC, spans are timedeltas, scores and ranks are ints, and metadata is
a plain dict whose numbers come back as floats, because the service keeps them as doubles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


class WatchEvent(_WireEnum):
    """What a message of a watch tells; see WatchUpdate."""

    UNSPECIFIED = 0
    SNAPSHOT = 1
    CHANGES = 2
    HEARTBEAT = 3
    GAP = 4
    SEASON_CHANGE = 5


class Erasure(_WireEnum):
    """What is done with a deleted user's submissions; UNSPECIFIED is the same as ERASE.

    ANONYMIZE keeps the scores, for statistics, under no user.
    """

    UNSPECIFIED = 0
    ERASE = 1
    ANONYMIZE = 2


class EntryView(_WireEnum):
    """How much of each entry an answer carries; FULL adds what only the database knows."""

    UNSPECIFIED = 0
    BASIC = 1
    FULL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A leaderboard's definition.

    The server sets `current_season_id`, the times and `etag`, and ignores what a caller puts there
    in a new board. Bounds are inclusive; None: no bound. `index_only`: PostgreSQL keeps no order of
    the entries.
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
    index_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One user's standing in one season.

    Ranks are 1-based and 0 where the answer carries none; the true rank lies in `rank_low` to
    `rank_high`. `submission_count`, `metadata` and `update_time` come with EntryView.FULL only,
    `list_rank` with batch_get_entries only. `hidden`: shown only because its owner asked, with the
    rank it would have; the ranks of all others pass it over.
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
    hidden: bool = False


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
    `viewer_user_id`: on whose behalf the read is made; a hidden entry of this user is shown where
    get_entry, batch_get_entries or list_entries_around asks for the user.
    """

    rank_mode: RankMode
    view: EntryView
    consistency_token: str
    max_staleness: timedelta
    allow_partial: bool
    season_id: str
    viewer_user_id: int


class RangeOptions(ReadOptions, total=False):
    """Which part of a board to list, and how to read it.

    `start_rank`: the 1-based ordinal rank to begin at. `min_score` and `max_score`, inclusive,
    leave out entries beyond them; ranks stay those of the whole board.
    """

    start_rank: int | None
    min_score: int | None
    max_score: int | None


class AroundOptions(ReadOptions, total=False):
    """How many entries to list around a place, and how to read them.

    `above` and `below`: entries before and after it, 0 to 100; left out or None means 5. What is
    missing at one end of the board comes from the other side.
    """

    above: int | None
    below: int | None


class EstimateOptions(ReadOptions, total=False):
    """What else to tell of a result, and how to read it.

    `target_rank`: what it takes to reach this rank. `target_percent`: what it takes to be among
    the best so many percent, above 0 and at most 100.
    """

    target_rank: int | None
    target_percent: float | None


class WatchQuestion(TypedDict, total=False):
    """What watch_entries follows: exactly one of `top_count` and `user_ids`, and how.

    `top_count`: so many from the top, 1 to 1,000. `user_ids`: these users, at most 100.
    `min_interval`: the least time between two updates, 100 ms to 60 s; left out means 1 s.
    `season_id` empty: the current season, and the next one when it comes.
    """

    top_count: int | None
    user_ids: Iterable[int] | None
    min_interval: timedelta | None
    rank_mode: RankMode
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
    """A page of a board, best first.

    `next_page_token` is empty at the end of the board, `previous_page_token` at its top.
    """

    entries: tuple[Entry, ...]
    next_page_token: str
    previous_page_token: str
    meta: ReadMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesAroundAnswer:
    """The entries around a place, best first."""

    entries: tuple[Entry, ...]
    meta: ReadMeta


@dataclass(frozen=True, slots=True)
class ScorePoint:
    """A result, whether or not anybody has it; `subscore` decides between equal scores."""

    score: int
    subscore: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTarget:
    """What it takes to reach a rank.

    `score` and `subscore` stand there now; None where nobody does. `score_needed` is the least
    improvement of the asked score that reaches the rank, None where no score within the board's
    bounds does, and `score_gap` how far off it is. `reached`: the asked result is enough as it is.
    """

    rank: int
    score: int | None
    subscore: int | None
    score_needed: int | None
    score_gap: int
    reached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RankEstimate:
    """What a result would be worth if it arrived now, after all entries with the same result.

    `rank_low` and `rank_high` enclose the rank. `next` is the next better place, None where there
    is none; `for_rank` and `for_percent` answer the targets, None where none was asked, and
    `for_percent` also on an empty board.
    """

    rank: int
    rank_low: int
    rank_high: int
    next: RankTarget | None
    for_rank: RankTarget | None
    for_percent: RankTarget | None
    meta: ReadMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentile:
    """Where a result stands among all: `rank` entries, `percent` of all, are as good or better.

    For a percent, `point` is the result of the last of them, None on an empty board; for a result,
    the result itself.
    """

    percent: float
    rank: int
    point: ScorePoint | None
    meta: ReadMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryDeleted:
    """What became of a deletion: `outcome` is APPLIED, or DUPLICATE where it was done before.

    `entry` is what was deleted; of a duplicate its score, subscore and achieve_time. `indexed`
    and `consistency_token` are as in SubmitResult.
    """

    outcome: Outcome
    entry: Entry | None
    indexed: bool
    consistency_token: str
    submission_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserHidden:
    """What became of a hiding.

    `changed` False: the user was hidden there already. `entry_count`: entries hidden by this call.
    """

    changed: bool
    entry_count: int
    indexed: bool
    consistency_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRestored:
    """What became of a restoration.

    `changed` False: the user was not hidden there. `entry_count`: entries shown again by this
    call. `still_hidden`: another hiding of the user remains that covers the board or, with no
    board asked, any.
    """

    changed: bool
    entry_count: int
    still_hidden: bool
    indexed: bool
    consistency_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDeleted:
    """How far a deletion is.

    The entries are gone; `erased_submission_count` submissions are erased or anonymized so far,
    and `done` says whether all are. `complete_time` is None until then. `erasure` is what is done
    with them: of several that were asked for, the strictest.
    """

    erasure: Erasure
    deleted_entry_count: int
    erased_submission_count: int
    done: bool
    create_time: datetime | None
    complete_time: datetime | None
    indexed: bool
    consistency_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardPage:
    """A page of boards by name. `next_page_token` is empty at the end."""

    boards: tuple[Board, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchUpdate:
    """What a watch knows now, and what is different from the update before.

    `entries` are all that are followed, in rank order. With `changed`, which are new or different,
    and without `removed_user_ids`, the entries of the update before become these.

    `event` is the weightiest since then: SEASON_CHANGE, SNAPSHOT, CHANGES or, only where asked
    for, HEARTBEAT. `streaming`: the server told it; False: the client asked for it. `gap`: what
    happened in between is not known; the entries are right all the same.
    """

    entries: tuple[Entry, ...]
    changed: tuple[Entry, ...]
    removed_user_ids: tuple[int, ...]
    meta: ReadMeta
    event: WatchEvent
    streaming: bool
    gap: bool
