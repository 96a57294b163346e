"""I4 and I11: no answer claims what cannot have been so, and none goes back.

Every entry of an answer is held against the versions that its user can have had. Ranks are held
against the least and the most that can have stood before: what had to be seen when the read
began, less the age that the answer admits, and what could be seen when it ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from chaos.history import Attempt, History, MarkKind, Meta, Place
from chaos.timeline import Ask, Timeline, Version
from chaos.verdicts import Breach, Harm, Invariant
from core.types import SHARD_COUNT

AGE_S: Final = 0.25
"""What an answer may be off by about its own age."""
SNAPSHOT_AGE_S_MAX: Final = 300.0
_PLACES_MAX: Final = 20_000
"""Entries whose ranks are counted, a board; of more, evenly spread ones."""
_SETTLED_S: Final = 2.0
"""After so long without an index every answer is read without it."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """An entry of an answer with the version that it shows."""

    attempt: Attempt
    meta: Meta
    place: Place
    version: Version
    since_s: float
    until_s: float
    view: str

    def asks(self) -> tuple[Ask, Ask]:
        """How few and how many can have stood before it."""
        key = self.version.key
        return Ask(self.since_s, key, self.view), Ask(self.until_s, key, "possible")


def check_answers(history: History, board: str, timeline: Timeline) -> Iterator[Breach]:
    """All that the answers about a board got wrong."""
    shown: list[_Shown] = []
    without_index, without_both = (
        _spans_without(history, "index"),
        _spans_without(history, "ledger"),
    )
    began_s = min(history.times_of(MarkKind.CONVERGED), default=float("-inf"))
    for attempt in history.attempts:
        if attempt.board != board or not attempt.answered or attempt.meta is None:
            continue
        yield from _check_meta(history, attempt, attempt.meta)
        view, since_s, until_s = _window(
            history,
            attempt,
            attempt.meta,
            without_index=_is_within(attempt, without_index),
            without_both=_is_within(attempt, without_both),
        )
        if since_s < began_s:
            # It admits to be from before this history.
            continue
        for place in attempt.places:
            version = timeline.version(place.user_id, place.score)
            text = _impossible(timeline, place, version, (view, since_s, attempt.end_s))
            if version is None or text:
                yield _wrong(attempt, text)
            else:
                shown.append(_Shown(attempt, attempt.meta, place, version, since_s, until_s, view))
    yield from _check_ranks(shown, timeline)
    yield from _check_monotone(shown)


def _window(
    history: History, attempt: Attempt, meta: Meta, *, without_index: bool, without_both: bool
) -> tuple[str, float, float]:
    """(the view, since when all of it has to show, until when it can be from) of an answer."""
    since_s = attempt.start_s
    if meta.source == "SNAPSHOT":
        # It may say that it is older than its moment: where the index was behind then.
        as_of_s = min(history.since_wall(meta.as_of_ms), since_s - meta.staleness_ms / 1000)
        # Shards that are not missing were read now; so may others have been, by PostgreSQL.
        alone = without_both and not meta.exact and len(meta.missing) == SHARD_COUNT
        return "indexed", as_of_s - AGE_S, as_of_s + AGE_S if alone else attempt.end_s
    if meta.stale or meta.staleness_ms or meta.source == "CACHE":
        since_s -= meta.staleness_ms / 1000 + AGE_S
    view = "recorded" if meta.source == "DATABASE" and without_index else "indexed"
    return view, since_s, attempt.end_s


def _spans_without(history: History, store: str) -> Sequence[tuple[float, float]]:
    """When nothing of the index can have answered; or of the ledger, which is never down alone."""
    healed = history.times_of(MarkKind.HEAL)
    return [
        (mark.time_s + _SETTLED_S, next((t for t in healed if t > mark.time_s), float("inf")))
        for mark in history.marks
        if mark.kind is MarkKind.FAULT and mark.details.get(store) == "down"
    ]


def _is_within(attempt: Attempt, spans: Sequence[tuple[float, float]]) -> bool:
    return any(first <= attempt.start_s <= last for first, last in spans)


def _check_meta(history: History, attempt: Attempt, meta: Meta) -> Iterator[Breach]:
    as_of_s = history.since_wall(meta.as_of_ms)
    if as_of_s > attempt.end_s + AGE_S:
        yield _wrong(attempt, "its as_of is in the future")
    if meta.source == "SNAPSHOT":
        age_s = attempt.start_s - as_of_s
        if not meta.stale and age_s > AGE_S:
            yield _wrong(attempt, "a snapshot is not marked as stale")
        if age_s > SNAPSHOT_AGE_S_MAX + AGE_S:
            yield _wrong(attempt, f"a snapshot of {age_s:.0f} s was served")
        if meta.staleness_ms / 1000 < age_s - AGE_S:
            yield _wrong(attempt, f"says {meta.staleness_ms} ms of age, and is {age_s:.3f} s old")
    ranks = [place.rank for place in attempt.places]
    if ranks != sorted(ranks):
        yield _wrong(attempt, "its ranks do not rise")
    if meta.exact and any(not place.low == place.rank == place.high for place in attempt.places):
        yield _wrong(attempt, "it is exact, and its ranks are intervals")


def _impossible(
    timeline: Timeline, place: Place, version: Version | None, window: tuple[str, float, float]
) -> str:
    """What speaks against an entry having been so at that time; nothing, mostly."""
    view, since_s, end_s = window
    if version is None:
        return f"user {place.user_id} never had {place.score}"
    if version.possible_s > end_s:
        return f"user {place.user_id} had {place.score} only later"
    least = timeline.least(place.user_id, since_s, view)
    if least is not None and least.score > version.score:
        return f"user {place.user_id} had {least.score} by then, not {place.score}"
    return ""


def _check_ranks(shown: Sequence[_Shown], timeline: Timeline) -> Iterator[Breach]:
    step = max(1, len(shown) // _PLACES_MAX)
    chosen = shown[::step]
    counts = timeline.counts([ask for one in chosen for ask in one.asks()])
    for one, fewest, most in zip(chosen, counts[::2], counts[1::2], strict=True):
        place = one.place
        low, high = (place.rank, place.rank) if one.meta.exact else (place.low, place.high)
        if high < fewest + 1 or low > most + 1:
            text = (
                f"user {place.user_id} at {low} to {high}; {fewest + 1} to {most + 1} is possible"
            )
            yield _wrong(one.attempt, text)


def _check_monotone(shown: Sequence[_Shown]) -> Iterator[Breach]:
    """I11: who reads later sees no lower score, as long as answers claim to be of now."""
    live = [one for one in shown if one.meta.source == "INDEX" and not one.meta.stale]
    ended = sorted(live, key=lambda one: one.attempt.end_s)
    best: dict[int, int] = {}
    at = 0
    for one in sorted(live, key=lambda one: one.attempt.start_s):
        while at < len(ended) and ended[at].attempt.end_s <= one.attempt.start_s:
            place = ended[at].place
            best[place.user_id] = max(place.score, best.get(place.user_id, place.score))
            at += 1
        seen = best.get(one.place.user_id)
        if seen is not None and seen > one.place.score:
            text = f"user {one.place.user_id} went from {seen} back to {one.place.score}"
            yield Breach(Invariant.MONOTONE, Harm.WRONG, text)


def _wrong(attempt: Attempt, text: str) -> Breach:
    source = attempt.meta.source if attempt.meta else ""
    told = f"{attempt.kind} on {attempt.board} from {source}: {text}"
    return Breach(Invariant.HONEST, Harm.WRONG, told)
