"""The record of a run, and what it leaves possible."""

from __future__ import annotations

import random
from pathlib import Path

from chaos.history import Attempt, History, MarkKind, Meta, Place, Sent, Told
from chaos.timeline import NEVER, Ask, Timeline, Version


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Attempts, marks and clocks come back from their file."""
    history = History(1.5, late=[(3.0, 0.25)])
    common = {"call": 1, "number": 1, "board": "b", "deadline_s": 0.3, "start_s": 1.0, "end_s": 1.1}
    history.attempts += [
        Attempt(
            kind="submit",
            code="OK",
            sent=(Sent("id", 7, 9),),
            told=(Told("APPLIED", "APPLIED", 9, indexed=True),),
            **common,
        ),
        Attempt(
            kind="top",
            code="OK",
            places=(Place(7, 1, 1, 1, 9),),
            meta=Meta("INDEX", missing=(3,)),
            **common,
        ),
        Attempt(kind="rank", code="UNAVAILABLE", **common),
    ]
    history.mark(MarkKind.OVERRIDE, 2.0, name="redis/*", ttl_s=5)

    history.write(tmp_path / "history.jsonl")

    assert History.read(tmp_path / "history.jsonl") == history


def test_counts_are_what_looking_at_everybody_gives() -> None:
    """How many stand before a key, at any time and by every view, against a plain loop."""
    rng = random.Random(5)
    versions = {user: _versions(user, rng) for user in range(1, 60)}
    timeline = Timeline(versions)
    asked = [
        Ask(rng.uniform(0, 10), rng.randbytes(2), view)
        for view in ("indexed", "recorded", "possible")
        for _ in range(200)
    ]

    counts = timeline.counts(asked)

    for ask, count in zip(asked, counts, strict=True):
        standing = [_at(own, ask) for own in versions.values()]
        assert count == sum(1 for key in standing if key is not None and key < ask.key)


def _versions(user: int, rng: random.Random) -> list[Version]:
    """Some versions of a user, better and better, the first one from before all time or not."""
    keys = sorted({rng.randbytes(2) for _ in range(rng.randint(1, 6))}, reverse=True)
    own = []
    for place, key in enumerate(keys):
        possible_s = -NEVER if place == 0 and user % 2 else rng.uniform(0, 10)
        recorded_s = rng.choice([NEVER, possible_s + 1])
        indexed_s = rng.choice([NEVER, recorded_s])
        if possible_s == -NEVER:
            recorded_s = indexed_s = -NEVER
        own.append(Version(key, place, possible_s, recorded_s, indexed_s))
    return own


def _at(own: list[Version], ask: Ask) -> bytes | None:
    """The best key that holds at that time."""
    holding = [v.key for v in own if getattr(v, f"{ask.view}_s") <= ask.time_s]
    return min(holding, default=None)


def test_deafness_is_counted_once() -> None:
    """Two clocks may tell of the same time; what lies outside does not count."""
    history = History(0, late=[(2.0, 1.0), (2.5, 1.0), (4.0, 0.5), (9.0, 1.0)])

    assert history.deaf_s(0, 10) == 1.5 + 0.5 + 1.0
    assert history.deaf_s(1.25, 3.75) == 1.25 + 0.25
    assert history.deaf_s(2.5, 3.5) == 0
