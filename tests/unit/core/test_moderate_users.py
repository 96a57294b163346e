"""What follows a removal's commit, where the index is in trouble or there is very much to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from core.board_directory import BoardDirectory
from core.errors import ReadBehind
from core.index_removals import IndexRemovals
from core.moderate_users import ModerateUsers
from core.ports import Freshness, Index
from core.removal_ports import EntrySweep, Hiding, Removal
from core.tokens import TokenSigner
from core.types import IndexChange

SIGNER = TokenSigner([b"secret"])
CHANGES = {
    7: [IndexChange(1, 5, b"a"), IndexChange(2, 5, b"b")],
    9: [IndexChange(3, 5, b"c")],
}


class _Index:
    """Notes what it is asked; takes the transactions that `answers` says nothing else of."""

    def __init__(self, log: list[object], answers: dict[int, object]) -> None:
        self._log = log
        self._answers = answers

    async def apply(self, xid: int, changes: Sequence[IndexChange]) -> frozenset[tuple[int, int]]:
        self._log.append(("apply", xid))
        answer = self._answers.get(xid, frozenset())
        if isinstance(answer, Exception):
            raise answer
        return cast("frozenset[tuple[int, int]]", answer)

    async def users(self, season_number: int, *_: object, fresh: Freshness, **__: object) -> None:
        self._log.append(("users", season_number, fresh.xids))
        for xid in (xid for xids in fresh.xids.values() for xid in xids):
            answer = self._answers.get(xid)
            if isinstance(answer, Exception):
                raise answer


class _Removal:
    """Hides users, with a sweep that is given."""

    def __init__(self, sweep: EntrySweep) -> None:
        self._sweep = sweep

    async def hide(self, *_: object) -> Hiding:
        return Hiding(changed=False, still_hidden=True, sweep=self._sweep)


@pytest.mark.parametrize(
    "answers",
    [{}, {7: frozenset({(2, 5)})}, {7: RuntimeError()}],
    ids=["taken", "missed", "broken"],
)
async def test_a_removal_is_shown_as_far_as_it_can_be(answers: dict[int, object]) -> None:
    """All transactions are applied, then caches let go; the token names them in any case."""
    log: list[object] = []
    index = cast("Index", _Index(log, answers))

    shown = await IndexRemovals(index, SIGNER, log.append, lambda _: None).apply(CHANGES)

    assert shown.indexed is not bool(answers)
    assert log[:2] == [("apply", 7), ("apply", 9)]
    assert set(log[2:]) == {1, 2, 3}
    writes = SIGNER.writes(shown.consistency_token)
    assert (writes.season_number, writes.by_shard()) == (0, {5: (7, 9)})


async def test_a_removal_that_changed_nothing_is_shown() -> None:
    """There is nothing to wait for, and nothing to forget."""
    log: list[object] = []

    shown = await IndexRemovals(
        cast("Index", _Index(log, {})), SIGNER, log.append, lambda _: None
    ).apply({})

    assert (shown.indexed, log) == (True, [])
    assert SIGNER.writes(shown.consistency_token).transactions == ()


async def _hide(sweep: EntrySweep, answers: dict[int, object]) -> tuple[list[object], bool, str]:
    log: list[object] = []
    showing = IndexRemovals(cast("Index", _Index(log, answers)), SIGNER, log.append, lambda _: None)
    users = ModerateUsers(cast("BoardDirectory", None), cast("Removal", _Removal(sweep)), showing)
    hidden = await users.hide(5, "")
    return log, hidden.indexed, hidden.consistency_token


@pytest.mark.parametrize("answers", [{}, {8: ReadBehind()}], ids=["shown", "behind"])
async def test_what_was_done_before_is_looked_for_and_told_too(answers: dict[int, object]) -> None:
    """In the season of its newest change; all its seasons are forgotten, one token names all."""
    sweep = EntrySweep(3, CHANGES, earlier=[(4, 3), (6, 8), (7, 0)])

    log, indexed, token = await _hide(sweep, answers)

    assert indexed is not bool(answers)
    assert set(log[:2]) == {("apply", 7), ("apply", 9)}
    season, fresh = next(
        (item[1], item[2]) for item in log if isinstance(item, tuple) and item[0] == "users"
    )
    assert (season, {shard: {*xids} for shard, xids in fresh.items()}) == (6, {5: {3, 8}})
    assert {item for item in log if isinstance(item, int)} == {1, 2, 3, 4, 6, 7}
    writes = SIGNER.writes(token)
    assert (writes.season_number, writes.by_shard()) == (0, {5: (3, 7, 8, 9)})


async def test_a_token_names_no_more_than_a_read_takes() -> None:
    """Of a user with very many entries, the newest changes."""
    sweep = EntrySweep(0, {}, earlier=[(season, season) for season in range(1, 2001)])

    _, _, token = await _hide(sweep, {})

    assert len(token) <= 16_384
    assert [xid for xid, _ in SIGNER.writes(token).transactions] == [*range(1001, 2001)]
