"""What follows a removal's commit, where the index is in trouble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from core.index_removals import IndexRemovals
from core.ports import Index
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


@pytest.mark.parametrize(
    "answers",
    [{}, {7: frozenset({(2, 5)})}, {7: RuntimeError()}],
    ids=["taken", "missed", "broken"],
)
async def test_a_removal_is_shown_as_far_as_it_can_be(answers: dict[int, object]) -> None:
    """All transactions are applied, then caches let go; the token names them in any case."""
    log: list[object] = []
    index = cast("Index", _Index(log, answers))

    shown = await IndexRemovals(index, SIGNER, log.append).apply(CHANGES)

    assert shown.indexed is not bool(answers)
    assert log[:2] == [("apply", 7), ("apply", 9)]
    assert set(log[2:]) == {1, 2, 3}
    writes = SIGNER.writes(shown.consistency_token)
    assert (writes.season_number, writes.by_shard()) == (0, {5: (7, 9)})


async def test_a_removal_that_changed_nothing_is_shown() -> None:
    """There is nothing to wait for, and nothing to forget."""
    log: list[object] = []

    shown = await IndexRemovals(cast("Index", _Index(log, {})), SIGNER, log.append).apply({})

    assert (shown.indexed, log) == (True, [])
    assert SIGNER.writes(shown.consistency_token).transactions == ()
