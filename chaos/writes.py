"""I1 to I3: nothing acknowledged is lost, nothing counts twice, the index equals the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from chaos.history import SUBMIT, History, MarkKind, Sent, Told
from chaos.stores import Event, Found, Standing
from chaos.timeline import NEVER, Timeline, Version
from chaos.verdicts import Breach, Harm, Invariant

BEST: Final = "BEST"
INCREMENT: Final = "INCREMENT"
_APPLIED: Final = 1
_OUTCOMES: Final = {1: "APPLIED", 2: "UNCHANGED", 5: "REJECTED"}
_RECORDED: Final = frozenset({*_OUTCOMES.values(), "DUPLICATE"})

Told_ = tuple[float, Told]
"""When it was told, and what."""


class Submissions:
    """All that was sent to a board, by id."""

    def __init__(self, history: History, board: str) -> None:
        self.sent: dict[str, Sent] = {}
        self.began_s: dict[str, float] = {}
        self.told: dict[str, list[Told_]] = {}
        for attempt in history.attempts:
            if attempt.kind != SUBMIT or attempt.board != board:
                continue
            for sent in attempt.sent:
                known = self.began_s.get(sent.submission_id, NEVER)
                self.sent[sent.submission_id] = sent
                self.began_s[sent.submission_id] = min(known, attempt.start_s)
            if attempt.answered:
                for sent, told in zip(attempt.sent, attempt.told, strict=True):
                    if told.outcome in _RECORDED:
                        self.told.setdefault(sent.submission_id, []).append((attempt.end_s, told))


def check_writes(found: Found, submissions: Submissions) -> Iterator[Breach]:
    """I1 and I2: every acknowledgement has its event, every event was sent, and what a user has
    is what these events make of what the user had.
    """
    for submission_id, told in submissions.told.items():
        yield from _check_told(submission_id, found.events.get(submission_id), told)
    for submission_id, event in found.events.items():
        sent = submissions.sent.get(submission_id)
        if sent is None or (sent.user_id, sent.score) != (event.user_id, event.score):
            yield _doubled(f"{submission_id} of user {event.user_id} was not sent like that")
    yield from _check_entries(found)


def check_convergence(found: Found) -> Iterator[Breach]:
    """I3: the index holds what the ledger holds, member for member."""
    if found.index is None:
        yield Breach(Invariant.CONVERGED, Harm.WRONG, f"{found.board}: part of it cannot be read")
        return
    right = found.after.keys()
    if found.index != right:
        missing, extra = set(right) - set(found.index), set(found.index) - set(right)
        text = (
            f"{found.board}: {len(missing)} entries are missing, {len(extra)} are there in excess"
        )
        yield Breach(Invariant.CONVERGED, Harm.WRONG, text)


def timeline_of(found: Found, submissions: Submissions, history: History) -> Timeline:
    """What each user can have been seen with, and when."""
    versions: dict[int, list[Version]] = {
        user: [Version(standing.key(user), standing.score, -NEVER, -NEVER, -NEVER)]
        for user, standing in found.before.entries.items()
    }
    converged = history.times_of(MarkKind.CONVERGED)
    for event in sorted(found.events.values(), key=lambda event: event.revision):
        if event.outcome == _APPLIED and event.new_score is not None:
            began_s = submissions.began_s.get(event.submission_id, -NEVER)
            told = submissions.told.get(event.submission_id, ())
            seen_s = next((time_s for time_s in converged if time_s > began_s), NEVER)
            version = Version(
                Standing(event.new_score, event.new_arrival or 0, 0, 0).key(event.user_id),
                event.new_score,
                began_s,
                min((time_s for time_s, _ in told), default=seen_s),
                min((time_s for time_s, one in told if one.indexed), default=seen_s),
            )
            versions.setdefault(event.user_id, []).append(version)
    return Timeline(versions)


def _check_told(submission_id: str, event: Event | None, told: Sequence[Told_]) -> Iterator[Breach]:
    if event is None:
        text = f"{submission_id} was acknowledged and is not in the ledger"
        yield Breach(Invariant.NOTHING_LOST, Harm.LOST, text)
        return
    first = [one for _, one in told if one.outcome != "DUPLICATE"]
    if len(first) > 1:
        yield _doubled(f"{submission_id} was taken for new {len(first)} times")
    for _, one in told:
        right = _OUTCOMES.get(event.outcome, "")
        if one.first_outcome != right or (
            event.outcome == _APPLIED and one.score != event.new_score
        ):
            yield _doubled(f"{submission_id} was told as {one}, the ledger says {event}")


def _check_entries(found: Found) -> Iterator[Breach]:
    applied: dict[int, list[Event]] = {}
    counted: Counter[int] = Counter()
    for event in found.events.values():
        if event.outcome == _APPLIED:
            applied.setdefault(event.user_id, []).append(event)
        if event.outcome in (1, 2):
            counted[event.user_id] += 1
    before, after = found.before.entries, found.after.entries
    for user in before.keys() | counted.keys() | after.keys():
        right = _folded(found.operator, before.get(user), applied.get(user, ()), counted[user])
        have = after.get(user)
        if have is None or (have.score, have.arrival, have.count) != right:
            lost = have is None or right[0] > have.score or right[2] > have.count
            invariant = Invariant.NOTHING_LOST if lost else Invariant.NOTHING_DOUBLED
            text = f"{found.board}: user {user} should have {right}, and has {have}"
            yield Breach(invariant, Harm.LOST if lost else Harm.DOUBLED, text)


def _folded(
    operator: str, before: Standing | None, applied: Sequence[Event], counted: int
) -> tuple[int, int, int]:
    """(score, arrival, count) of a user after these submissions."""
    score, arrival, count = (before.score, before.arrival, before.count) if before else (0, 0, 0)
    if applied:
        last = max(applied, key=lambda event: event.revision)
        arrival = last.new_arrival or 0
        if operator == INCREMENT:
            score += sum(event.score for event in applied)
        else:
            score = max([event.score for event in applied] + ([before.score] if before else []))
    return score, arrival, count + counted


def _doubled(text: str) -> Breach:
    return Breach(Invariant.NOTHING_DOUBLED, Harm.DOUBLED, text)
