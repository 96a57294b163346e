"""A leaderboard as anyone would write it: one dictionary, one sort. All is held against it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

from core.types import (
    INT64_MAX,
    INT64_MIN,
    BoardSpec,
    Operator,
    Outcome,
    RankMode,
    ScorePoint,
    ScoreRange,
    SortOrder,
)


@dataclass(frozen=True)
class OracleEntry:
    """A user's result and when it was reached, as a place in the order of all submissions."""

    user_id: int
    score: int
    subscore: int
    arrival: int
    submission_count: int


@dataclass(frozen=True)
class OracleRecord:
    """What a submission is answered with."""

    outcome: Outcome
    first_outcome: Outcome
    entry: OracleEntry | None
    previous: OracleEntry | None


@dataclass
class Oracle:
    """One season of one board."""

    spec: BoardSpec
    entries: dict[int, OracleEntry] = field(default_factory=dict)
    records: dict[str, OracleRecord] = field(default_factory=dict)
    arrivals: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    hidden: set[int] = field(default_factory=set)

    def submit(
        self,
        user_id: int,
        score: int,
        subscore: int = 0,
        operator: Operator | None = None,
        submission_id: str = "",
    ) -> OracleRecord:
        """Takes a submission, or tells what became of it the first time."""
        known = self.records.get(submission_id)
        if known is not None:
            return replace(known, outcome=Outcome.DUPLICATE)
        before = self.entries.get(user_id)
        arrival = next(self.arrivals)
        result = self._result(before, score, subscore, operator or self.spec.operator)
        outcome = self._outcome(before, result)
        if outcome is Outcome.APPLIED:
            count = before.submission_count + 1 if before else 1
            self.entries[user_id] = OracleEntry(user_id, *result, arrival, count)
        elif outcome is Outcome.UNCHANGED and before is not None:
            count = before.submission_count + 1
            self.entries[user_id] = replace(before, submission_count=count)
        record = OracleRecord(outcome, outcome, self.entries.get(user_id), before)
        if submission_id:
            self.records[submission_id] = record
        return record

    def board(self) -> list[OracleEntry]:
        """All entries that everybody sees, best first."""
        shown = [entry for entry in self.entries.values() if entry.user_id not in self.hidden]
        return sorted(shown, key=self._place)

    def rank(self, user_id: int, mode: RankMode = RankMode.ORDINAL) -> int:
        """The rank of a user; the one it would have where it is hidden."""
        own = self._place(self.entries[user_id])
        length = 2 if mode is RankMode.COMPETITION else 4
        return 1 + sum(1 for entry in self.board() if self._place(entry)[:length] < own[:length])

    def competition_rank(self, user_id: int) -> int:
        """The rank shared by equal results."""
        return self.rank(user_id, RankMode.COMPETITION)

    def within(self, scores: ScoreRange) -> list[OracleEntry]:
        """The entries with a score within a range, best first."""
        return [
            entry
            for entry in self.board()
            if (scores.low is None or scores.low <= entry.score)
            and (scores.high is None or entry.score <= scores.high)
        ]

    def around(self, center: int | ScorePoint, above: int, below: int) -> list[OracleEntry]:
        """Those around a user, who is among them, or around the place after a result."""
        if isinstance(center, ScorePoint):
            own, others = [], self.board()
            place = (*self._better((center.score, center.subscore)), INT64_MAX, INT64_MAX)
        else:
            own = [self.entries[center]]
            others = [entry for entry in self.board() if entry.user_id != center]
            place = self._place(own[0])
        better = [entry for entry in others if self._place(entry) < place]
        worse = [entry for entry in others if self._place(entry) > place]
        nearest, after = better[::-1][:above], worse[:below]
        # One by one from the other side, as long as there is somebody.
        while len(nearest) + len(after) < above + below and len(nearest) < len(better):
            nearest.append(better[::-1][len(nearest)])
        while len(nearest) + len(after) < above + below and len(after) < len(worse):
            after.append(worse[len(after)])
        return nearest[::-1] + own + after

    def list_ranks(self, user_ids: list[int], mode: RankMode) -> list[tuple[int, int]]:
        """The users that have entries and their ranks among each other, best first."""
        own = replace(self, entries={user: self.entries[user] for user in user_ids})
        found = sorted(own.entries.values(), key=self._place)
        return [(entry.user_id, own.rank(entry.user_id, mode)) for entry in found]

    def estimate(self, point: ScorePoint, mode: RankMode) -> int:
        """The rank of a newcomer with this result."""
        newcomer = OracleEntry(INT64_MAX, point.score, point.subscore, INT64_MAX, 1)
        return replace(self, entries={**self.entries, INT64_MAX: newcomer}).rank(INT64_MAX, mode)

    def score_needed(self, point: ScorePoint, rank: int, mode: RankMode, steps: int) -> int | None:
        """The first score, one step after the other, that takes a rank within the bounds."""
        better = 1 if self.spec.sort_order is SortOrder.DESCENDING else -1
        low = INT64_MIN if self.spec.min_score is None else self.spec.min_score
        high = INT64_MAX if self.spec.max_score is None else self.spec.max_score
        if self.estimate(point, mode) <= rank:
            return point.score
        for score in range(point.score, point.score + better * steps, better):
            reaches = self.estimate(replace(point, score=score), mode) <= rank
            if low <= score <= high and reaches:
                return score
        return None

    def _result(
        self, before: OracleEntry | None, score: int, subscore: int, operator: Operator
    ) -> tuple[int, int]:
        old = (before.score, before.subscore) if before else (0, 0)
        match operator:
            case Operator.INCREMENT:
                return old[0] + score, old[1] + subscore
            case Operator.DECREMENT:
                return old[0] - score, old[1] - subscore
            case Operator.BEST if before and self._better(old) <= self._better((score, subscore)):
                return old
            case _:
                return score, subscore

    def _outcome(self, before: OracleEntry | None, result: tuple[int, int]) -> Outcome:
        if before is not None and result == (before.score, before.subscore):
            return Outcome.UNCHANGED
        low = INT64_MIN if self.spec.min_score is None else self.spec.min_score
        high = INT64_MAX if self.spec.max_score is None else self.spec.max_score
        if not low <= result[0] <= high or not INT64_MIN <= result[1] <= INT64_MAX:
            return Outcome.REJECTED
        return Outcome.APPLIED

    def _better(self, result: tuple[int, int]) -> tuple[int, int]:
        """A result so that smaller is better."""
        score, subscore = result
        return (
            score if self.spec.sort_order is SortOrder.ASCENDING else -score,
            subscore if self.spec.subscore_sort_order is SortOrder.ASCENDING else -subscore,
        )

    def _place(self, entry: OracleEntry) -> tuple[int, int, int, int]:
        return (*self._better((entry.score, entry.subscore)), entry.arrival, entry.user_id)
