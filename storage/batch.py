"""The shapes that go into storage/sql/record.sql and come out of it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from core.errors import (
    SeasonNotOpen,
    StandingsError,
    SubmissionIdInFuture,
    SubmissionIdReused,
    SubmissionIdTooOld,
    UserBeingDeleted,
)
from core.flushes import Placed
from core.types import (
    INT64_MAX,
    INT64_MIN,
    EntryState,
    Outcome,
    Recorded,
    Season,
    SortOrder,
    Standing,
)

_HAS_ENTRY: Final = (EntryState.LIVE.value, EntryState.HIDDEN.value)
_OUTCOMES: Final[Mapping[int, Outcome]] = {outcome.value: outcome for outcome in Outcome}


class RecordRow(NamedTuple):
    """What became of one submission of a wave; the columns from `outcome` on are None where it
    was refused or known. Times in ms. `xid` as in core.types.Recorded.
    """

    place: int
    refusal: str | None
    server_time_ms: int
    season_no: int
    season_id: str
    outcome: int
    state: int
    score: int
    subscore: int
    achieve_time_ms: int
    submission_count: int
    update_time_ms: int
    metadata: str | None
    prev_score: int | None
    prev_subscore: int
    prev_achieve_time_ms: int
    xid: int
    item: bytes | None


class StoredRow(NamedTuple):
    """A submission as it was recorded the first time, or what its erasure left. Times in ms.

    `erasure_key` is None unless it was erased.
    """

    submission_id: str
    digest: bytes
    erasure_key: bytes | None
    user_id: int
    outcome: int
    season_no: int
    season_id: str
    xid: int
    score: int | None
    subscore: int
    achieve_time_ms: int
    prev_score: int | None
    prev_subscore: int
    prev_achieve_time_ms: int

    def is_of(self, digest: bytes) -> bool:
        """Whether its content was the one with this digest."""
        if self.erasure_key is not None:
            digest = hashlib.sha256(self.erasure_key + digest).digest()
        return self.digest == digest

    def standings(self) -> tuple[Standing | None, Standing | None]:
        """The entry after it and the one before it; neither is told of an erased one."""
        entry = previous = None
        if self.erasure_key is None and self.score is not None:
            entry = Standing(self.user_id, self.score, self.subscore, self.achieve_time_ms)
        if self.erasure_key is None and self.prev_score is not None:
            previous = Standing(
                self.user_id, self.prev_score, self.prev_subscore, self.prev_achieve_time_ms
            )
        return entry, previous


def parameters_of(wave: Sequence[Placed]) -> dict[str, Any]:
    """The arrays of a wave, one element a submission.

    They are written as PostgreSQL's array literals here: the driver adapts a list number by
    number, which takes 665 us for 500 of them where this takes 74, and there are ten such lists.
    """
    submissions = [placed.submission for placed in wave]
    boards = [placed.board for placed in wave]
    specs = [board.spec for board in boards]
    return {
        **ids_of(wave),
        "board_no": _numbers([b.number for b in boards]),
        "board_version": _numbers([b.version for b in boards]),
        "user_id": _numbers([s.user_id for s in submissions]),
        "score": _numbers([s.score for s in submissions]),
        "subscore": _numbers([s.subscore for s in submissions]),
        "operator": _numbers(
            [int(s.operator or spec.operator) for s, spec in zip(submissions, specs, strict=True)]
        ),
        "requested": _numbers([int(s.operator or 0) for s in submissions]),
        "low": _numbers([INT64_MIN if s.min_score is None else s.min_score for s in specs]),
        "high": _numbers([INT64_MAX if s.max_score is None else s.max_score for s in specs]),
        "score_flip": _numbers([flip_of(s.sort_order) for s in specs]),
        "subscore_flip": _numbers([flip_of(s.subscore_sort_order) for s in specs]),
        "flush_place": _numbers([placed.place for placed in wave]),
        "metadata": _documents([s.metadata for s in submissions]),
        "digest": _texts(f'"\\\\x{s.digest.hex()}"' for s in submissions),
    }


def ids_of(placed: Sequence[Placed]) -> dict[str, Any]:
    """The ids, and the first and last of them."""
    ids = [item.submission.submission_id for item in placed]
    return {"id": _texts(ids), "first_id": min(ids), "last_id": max(ids)}


def flip_of(order: SortOrder) -> int:
    """-1 where the column is descending, else 0: XOR with it makes smaller mean better."""
    return -1 if order is SortOrder.DESCENDING else 0


def window_of(*, past: timedelta, future: timedelta) -> dict[str, Any]:
    """The bounds of the submission ids that are taken."""
    return {"window_past": past, "window_future": future}


def outcome_of(placed: Placed, row: RecordRow) -> Recorded | StandingsError:
    """The result of a submission that was recorded now, or why it was not.

    Whole transactions are refused for changed boards, so no row tells of one here.
    """
    if row.refusal is not None:
        return _refusal(row)
    outcome = _OUTCOMES[row.outcome]
    submission = placed.submission
    entry = previous = None
    # By position, which is quicker than by name: this is done for every submission.
    if row.state in _HAS_ENTRY:
        entry = Standing(
            submission.user_id,
            row.score,
            row.subscore,
            row.achieve_time_ms,
            row.submission_count,
            row.update_time_ms,
            row.metadata,
        )
    if row.prev_score is not None:
        previous = Standing(
            submission.user_id, row.prev_score, row.prev_subscore, row.prev_achieve_time_ms
        )
    return Recorded(
        submission.submission_id,
        outcome,
        outcome,
        entry,
        previous,
        _season(row.season_no, row.season_id),
        row.xid,
        outcome is Outcome.APPLIED,
    )


def duplicate_of(placed: Placed, stored: StoredRow) -> Recorded | StandingsError:
    """The first outcome of a submission that was recorded before."""
    if not stored.is_of(placed.submission.digest):
        return SubmissionIdReused()
    entry, previous = stored.standings()
    first = Outcome(stored.outcome)
    return Recorded(
        submission_id=placed.submission.submission_id,
        outcome=Outcome.DUPLICATE,
        first_outcome=first,
        entry=entry,
        previous=previous,
        season=Season(stored.season_no, stored.season_id),
        xid=stored.xid,
        touches_index=first is Outcome.APPLIED,
    )


@functools.lru_cache(maxsize=1024)
def _season(number: int, season_id: str) -> Season:
    return Season(number, season_id)


def _refusal(row: RecordRow) -> StandingsError:
    match row.refusal:
        case "too old":
            return SubmissionIdTooOld(row.server_time_ms)
        case "in future":
            return SubmissionIdInFuture(row.server_time_ms)
        case "being deleted":
            return UserBeingDeleted()
        case _:
            return SeasonNotOpen()


def _numbers(values: list[int]) -> str:
    return "{" + str(values)[1:-1] + "}"


def _texts(values: Iterable[str]) -> str:
    return "{" + ",".join(values) + "}"


def _documents(values: list[str | None]) -> str | list[str | None]:
    """JSON needs quoting, which the driver knows; most batches carry none."""
    if any(value is not None for value in values):
        return values
    return "{" + ",".join(["NULL"] * len(values)) + "}"
