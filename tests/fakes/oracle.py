"""A leaderboard as anyone would write it: one dictionary, one sort. All is held against it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

from core.types import INT64_MAX, INT64_MIN, BoardSpec, Operator, Outcome, SortOrder


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
        """All entries, best first."""
        return sorted(self.entries.values(), key=self._place)

    def rank(self, user_id: int) -> int:
        """The ordinal rank."""
        return [entry.user_id for entry in self.board()].index(user_id) + 1

    def competition_rank(self, user_id: int) -> int:
        """The rank shared by equal results."""
        own = self._place(self.entries[user_id])[:2]
        return 1 + sum(1 for entry in self.entries.values() if self._place(entry)[:2] < own)

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
