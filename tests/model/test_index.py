"""Any history of commits, late and doubled applies, healing, flushes and builds ends with an index
that equals the ledger (PROTOCOL P5, P6).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from core.errors import IndexUnbuilt, Unavailable
from core.ports import FlushResult
from core.types import Board, Operator
from tests.fakes.making import board_spec, submission
from tests.fixtures.keeping import Kept
from tests.fixtures.redis import empty

pytestmark = [pytest.mark.both_engines, pytest.mark.timeout(600)]

_names = (f"index-{number}" for number in itertools.count(1))
_flush = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2)), min_size=1, max_size=4)
_often = st.one_of(
    st.tuples(st.sampled_from(["commit and apply", "commit and hold", "commit and lose"]), _flush),
    st.tuples(st.just("apply a held one"), st.integers(0, 9)),
    st.tuples(st.just("apply one again"), st.integers(0, 9)),
    st.tuples(st.just("heal"), st.none()),
)
_seldom = st.one_of(
    st.tuples(st.just("flush redis"), st.none()),
    st.tuples(st.just("build"), st.none()),
    st.tuples(st.just("begin a build and die"), st.integers(0, 15)),
)
_steps = st.one_of(_often, _often, _often, _seldom)
_ONE = [(1, 1)]


@dataclass
class History:
    """One board through whatever happens."""

    kept: Kept
    board: Board
    held: list[FlushResult] = field(default_factory=list)
    applied: list[FlushResult] = field(default_factory=list)

    async def step(self, action: str, detail: object) -> None:
        """Lets one thing happen."""
        match action, detail:
            case (_, list(scores)):
                await self._commit(action, scores)
            case ("apply a held one", int(number)) if self.held:
                await self._apply(self.held.pop(number % len(self.held)))
            case ("apply one again", int(number)) if self.applied:
                await self.kept.apply(self.applied[number % len(self.applied)])
            case ("begin a build and die", int(shard)):
                await self._begin(shard)
            case ("heal", _):
                await self.kept.heal()
            case ("flush redis", _):
                await empty(self.kept.cluster)
            case ("build", _):
                await self.kept.build_missing()

    async def end(self) -> None:
        """Lets builder and healer run until no shard waits for a transaction, and the last late
        applies come.
        """
        await self.kept.build_missing()
        await self.kept.catch_up()
        for late in self.held:
            await self.kept.apply(late)

    async def _commit(self, action: str, scores: Sequence[tuple[int, int]]) -> None:
        name = self.board.spec.board_id
        items = [submission(user, score, board_id=name) for user, score in scores]
        result = await self.kept.record(self.board, items)
        if action == "commit and apply":
            await self._apply(result)
        elif action == "commit and hold":
            self.held.append(result)

    async def _apply(self, result: FlushResult) -> None:
        await self.kept.apply(result)
        self.applied.append(result)

    async def _begin(self, shard: int) -> None:
        start = await self.kept.history.point()
        with contextlib.suppress(Unavailable):
            await self.kept.keeping.begin(
                self.board.season.number, shard, token="dead", start=start
            )


@example([("commit and hold", _ONE), ("commit and apply", _ONE), ("apply a held one", 0)])
@example([("commit and hold", _ONE), ("heal", None), ("apply a held one", 0)])
@example([("commit and lose", _ONE), ("commit and apply", [(2, 1)]), ("heal", None)])
@example([("begin a build and die", 1), ("commit and apply", _ONE), ("build", None)])
@example([("flush redis", None), ("commit and apply", _ONE), ("build", None), ("heal", None)])
@given(steps=st.lists(_steps, min_size=5, max_size=30))
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_any_history_ends_with_an_equal_index(
    kept: Kept, steps: list[tuple[str, object]]
) -> None:
    """Whatever was missed, doubled, late or wiped: builder and healer make it equal again."""
    board = await kept.boards.create(board_spec(next(_names), operator=Operator.INCREMENT))
    await kept.build_missing()
    history = History(kept, board)
    for action, detail in steps:
        await history.step(action, detail)
        with contextlib.suppress(IndexUnbuilt):
            # Not always up to date, but never an entry that the ledger did not have.
            assert len(await kept.shown(board)) <= len(await kept.truth(board))

    await history.end()

    assert await kept.shown(board) == await kept.truth(board)
    await kept.boards.delete(board.spec.board_id, etag="")
