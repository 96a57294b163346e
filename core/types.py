"""The words of the house as types. Scores are int64 everywhere; no float touches one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from core.values import value

SHARD_COUNT: Final = 16
ALL_SHARDS: Final = tuple(range(SHARD_COUNT))
LAG_MS_MAX: Final = 5_000
"""The index is checked against the ledger every second. After so long without, an answer says that
it may be old.
"""
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1


class SortOrder(IntEnum):
    """Which end of a number is the better one."""

    DESCENDING = 1
    ASCENDING = 2


class Operator(IntEnum):
    """How a submission changes the entry it meets."""

    BEST = 1
    SET = 2
    INCREMENT = 3
    DECREMENT = 4


class RankMode(IntEnum):
    """How equal results are numbered."""

    ORDINAL = 1
    COMPETITION = 2


class Outcome(IntEnum):
    """What became of a submission."""

    APPLIED = 1
    UNCHANGED = 2
    DUPLICATE = 3
    HELD = 4
    REJECTED = 5


class Source(IntEnum):
    """Where an answer was read."""

    INDEX = 1
    CACHE = 2
    DATABASE = 3
    SNAPSHOT = 4
    ARCHIVE = 5


class Exactness(IntEnum):
    """How sharply the ranks of an answer are known."""

    EXACT = 1
    INTERVAL = 2


class EntryView(IntEnum):
    """How much of an entry an answer carries."""

    BASIC = 1
    FULL = 2


class EntryState(IntEnum):
    """Whether an entry counts; two bits of its index value.

    VOID is a row that only holds a lock: a first submission that was rejected.
    """

    LIVE = 0
    DELETED = 1
    HIDDEN = 2
    VOID = 3


class ShardState(IntEnum):
    """Whether a shard of the index can answer."""

    READY = 1
    REBUILDING = 2
    UNBUILT = 3
    DOWN = 4


def shard_of(user_id: int) -> int:
    """The shard of a user, 0 to 15."""
    return user_id % SHARD_COUNT


@value
class Season:
    """One period of a board. `number` is never reused; `season_id` is the name callers see."""

    number: int
    season_id: str


@dataclass(frozen=True, slots=True)
class BoardSpec:
    """What a caller decides about a board. `metadata` is canonical JSON. `index_only`: PostgreSQL
    keeps no order of the entries.
    """

    board_id: str
    title: str
    sort_order: SortOrder
    subscore_sort_order: SortOrder
    operator: Operator
    min_score: int | None
    max_score: int | None
    client_writes: bool
    metadata: str | None
    index_only: bool = False


@value
class Board:
    """A stored board. `number` is never reused, `version` counts its changes; times in ms."""

    number: int
    spec: BoardSpec
    season: Season
    version: int
    create_time_ms: int
    update_time_ms: int

    @property
    def etag(self) -> str:
        """Names this version of the definition."""
        return f"{self.number:x}-{self.version:x}"


@value
class Submission:
    """One score event, checked and ready to be recorded.

    `submission_id` is a UUIDv7 in canonical text; `operator` as asked (None: the board's);
    `metadata` canonical JSON; `digest` covers the content, so that the same id with other
    content is refused. `by_player`: it comes from a player's own program, which not every board
    takes.
    """

    submission_id: str
    board_id: str
    user_id: int
    score: int
    subscore: int
    operator: Operator | None
    metadata: str | None
    digest: bytes
    return_rank: bool = False
    by_player: bool = False


@value
class Standing:
    """A user's result at one moment. `submission_count`, `update_time_ms` and `metadata` only
    where the answer came from PostgreSQL and was asked for them.
    """

    user_id: int
    score: int
    subscore: int
    achieve_time_ms: int
    submission_count: int = 0
    update_time_ms: int | None = None
    metadata: str | None = None


@value
class Recorded:
    """What the ledger stored for one submission.

    `xid` is the transaction that made the entry what is told of it, which a read has to show: the
    submission's own where that changed it, else the last one before that did; 0 where none is
    known. `touches_index`: the submission changed the entry, when it was recorded.
    """

    submission_id: str
    outcome: Outcome
    first_outcome: Outcome
    entry: Standing | None
    previous: Standing | None
    season: Season
    xid: int
    touches_index: bool


@value
class SubmitResult:
    """What a caller is told of one submission. `rank` None: not asked, or not known now."""

    recorded: Recorded
    indexed: bool
    rank: int | None = None


@value
class IndexChange:
    """One entry as the index is to hold it. `item` as in core.ordering.encode_item."""

    season_number: int
    shard: int
    item: bytes


@value
class RankedEntry:
    """An entry with its 1-based rank; `list_rank` 0 outside lists of users. `hidden`: shown to its
    owner only, with the rank it would have.
    """

    standing: Standing
    rank: int
    list_rank: int = 0
    hidden: bool = False


@value
class ReadMeta:
    """What an answer says about itself.

    `as_of_ms`: the worker's clock when the read began, or when the snapshot was made that it was
    read from. `staleness_ms`: how old the answer may be, 0 where nothing newer can be missing from
    it. The true rank is lower than the one told by `fewer` at most, or higher by `more` at most.
    """

    as_of_ms: int
    source: Source
    exactness: Exactness
    season_id: str
    epoch: int
    entry_count: int
    staleness_ms: int = 0
    shards_missing: tuple[int, ...] = ()
    fewer: int = 0
    more: int = 0


@value
class ReadOptions:
    """How a read is to be answered. `max_staleness_ms` None: any age."""

    rank_mode: RankMode = RankMode.ORDINAL
    view: EntryView = EntryView.BASIC
    consistency_token: str = ""
    season_id: str = ""
    max_staleness_ms: int | None = None
    viewer_user_id: int = 0
    """Whose hidden entry may be shown; 0: nobody's."""
    allow_partial: bool = False
    """Whether shards may be left out that nobody answers for."""


class Erasure(IntEnum):
    """What is done with the submissions of a deleted user."""

    ERASE = 1
    ANONYMIZE = 2


@dataclass(frozen=True, slots=True)
class AuditNote:
    """Who set a lever, why, and in which call; told to those who find it."""

    actor: str
    reason: str
    request_id: str


@value
class ScorePoint:
    """A result, whether or not anybody has it."""

    score: int
    subscore: int = 0


@value
class ScoreRange:
    """Scores from `low` to `high`, both inclusive; None: open."""

    low: int | None = None
    high: int | None = None


ANY_SCORE: Final = ScoreRange()
"""The whole board."""


@dataclass(frozen=True, slots=True)
class ShardReport:
    """How one shard of the index stands. `lag_ms` None: never checkpointed."""

    shard: int
    slot: int
    node_address: str
    entry_count: int
    watermark: int
    lag_ms: int | None
    state: ShardState
