"""Whether an answer can have been true, by what its marks say was there to answer it."""

from __future__ import annotations

import pytest

from chaos.answers import check_answers
from chaos.history import Attempt, History, MarkKind, Meta, Place
from chaos.timeline import Timeline, Version

SHARDS = tuple(range(16))


def _board() -> Timeline:
    """One user with 50 points, and a hundred that pass it, one each second."""
    versions = {1: [Version(b"m", 50, 0.0, 0.0, 0.0)]}
    for user in range(100):
        low = Version(b"x%03d" % user, 10, 0.0, 0.0, 0.0)
        time_s = float(user)
        versions[2 + user] = [low, Version(b"a%03d" % user, 90, time_s, time_s, time_s)]
    return Timeline(versions)


def _answer(low: int, high: int, missing: tuple[int, ...]) -> Attempt:
    """At 60 s, of what was so at 50: 51 have passed the user by then, 61 by now."""
    return Attempt(
        call=1,
        number=1,
        kind="rank",
        board="b",
        deadline_s=0.3,
        start_s=60.0,
        end_s=60.1,
        code="OK",
        places=(Place(1, (low + high) // 2, low, high, 50),),
        meta=Meta("SNAPSHOT", exact=False, stale=True, as_of_ms=50_000, staleness_ms=10_000,
                  missing=missing),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("down", "missing", "low", "high", "wrong"),
    [
        ({"index": "down"}, SHARDS, 56, 60, False),
        ({}, SHARDS[:5], 56, 60, False),
        ({"index": "down", "ledger": "down"}, SHARDS, 56, 60, True),
        ({"index": "down", "ledger": "down"}, SHARDS, 50, 54, False),
        ({"index": "down"}, SHARDS, 64, 70, True),
        ({"index": "down"}, SHARDS, 40, 50, True),
    ],
)
def test_parts_of_an_old_answer_may_be_of_now_where_somebody_could_tell(
    down: dict[str, str],
    missing: tuple[int, ...],
    low: int,
    high: int,
    wrong: bool,  # noqa: FBT001
) -> None:
    """PostgreSQL answers for some shards of which others are told by a snapshot."""
    history = History(0.0, [_answer(low, high, missing)])
    history.mark(MarkKind.FAULT, 20.0, **down)

    assert bool([*check_answers(history, "b", _board())]) is wrong
