"""Any sequence of submissions and reads gives what one sorted Python list gives.

The machine drives a whole server over the wire, so it runs in a loop of its own beside pytest's.
"""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core.types import (
    INT64_MAX,
    INT64_MIN,
)
from core.types import Operator as CoreOperator
from core.types import SortOrder as CoreOrder
from standings_client import (
    Board,
    Client,
    EntryNotFound,
    Operator,
    Outcome,
    RankMode,
    SortOrder,
    Submission,
    SubmitResult,
)
from standings_client.types import Entry
from tests.fakes.making import board_spec, submission_id
from tests.fakes.oracle import Oracle, OracleEntry, OracleRecord
from tests.fixtures.server import RunningServer

pytestmark = [pytest.mark.both_engines, pytest.mark.timeout(600)]

_users = st.integers(1, 9) | st.sampled_from([2**63 - 1, 2**62, 12345678901])
_scores = st.integers(-3, 3) | st.sampled_from(
    [INT64_MIN, INT64_MIN + 1, INT64_MAX - 1, INT64_MAX, -(2**53) - 1, 2**53 + 1]
)
_operators = st.none() | st.sampled_from(CoreOperator)
_steps = st.tuples(_users, _scores, _scores | st.just(0), _operators)
_names = (f"model-{number}" for number in itertools.count(1))


class BoardMachine(RuleBasedStateMachine):
    """One board, and a dictionary beside it."""

    client: Client

    @initialize(
        orders=st.tuples(st.sampled_from(CoreOrder), st.sampled_from(CoreOrder)),
        operator=st.sampled_from(CoreOperator),
        bounds=st.sampled_from([(None, None), (-2, 2), (None, 2**53), (-3, None)]),
    )
    def make(
        self,
        orders: tuple[CoreOrder, CoreOrder],
        operator: CoreOperator,
        bounds: tuple[int | None, int | None],
    ) -> None:
        """Makes the board."""
        self.board_id = next(_names)
        self.sent: list[tuple[str, int, int, int, CoreOperator | None]] = []
        self.oracle = Oracle(
            board_spec(
                self.board_id,
                sort_order=orders[0],
                subscore_sort_order=orders[1],
                operator=operator,
                min_score=bounds[0],
                max_score=bounds[1],
            )
        )
        self.client.boards.create(
            Board(
                board_id=self.board_id,
                sort_order=SortOrder(orders[0]),
                subscore_sort_order=SortOrder(orders[1]),
                operator=Operator(operator),
                min_score=bounds[0],
                max_score=bounds[1],
            )
        )

    @rule(step=_steps)
    def submit(self, step: tuple[int, int, int, CoreOperator | None]) -> None:
        """One submission."""
        self._submit(submission_id(), *step)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        """A submission of the past again."""
        self._submit(*data.draw(st.sampled_from(self.sent)))

    @rule(steps=st.lists(_steps, min_size=1, max_size=12), data=st.data())
    def submit_batch(
        self, steps: list[tuple[int, int, int, CoreOperator | None]], data: st.DataObject
    ) -> None:
        """A batch: new ones, some of the past, and some twice in it."""
        batch = [(submission_id(), *step) for step in steps]
        batch += data.draw(st.lists(st.sampled_from(self.sent + batch), max_size=4))
        answer = self.client.batch_submit_scores([self._submission(*item) for item in batch])
        for item, result in zip(batch, answer.results, strict=True):
            assert isinstance(result, SubmitResult), result
            self._check(result, self._expect(*item))

    @invariant()
    def the_board_is_the_sorted_list(self) -> None:
        """Order, results and both kinds of rank, by page and by user."""
        if not hasattr(self, "oracle"):
            return
        board = self.oracle.board()
        shared = [self.oracle.competition_rank(entry.user_id) for entry in board]
        walked = self._walk(RankMode.ORDINAL)

        assert [(e.user_id, e.score, e.subscore) for e in walked] == [
            (entry.user_id, entry.score, entry.subscore) for entry in board
        ]
        assert [entry.rank for entry in walked] == list(range(1, len(board) + 1))
        assert [entry.rank for entry in self._walk(RankMode.COMPETITION)] == shared
        users = [entry.user_id for entry in board]
        if users:
            self._check_users(users, shared)

    @rule(user=_users)
    def get(self, user: int) -> None:
        """One user, who may have no entry."""
        if user not in self.oracle.entries:
            with pytest.raises(EntryNotFound):
                self.client.get_entry(self.board_id, user)
            return
        entry = self.client.get_entry(self.board_id, user).entry
        assert entry.rank == self.oracle.rank(user)

    def _check_users(self, users: list[int], shared: list[int]) -> None:
        answer = self.client.batch_get_entries(self.board_id, [*reversed(users), 777])
        assert [entry.user_id for entry in answer.entries] == users
        assert [e.rank for e in answer.entries] == list(range(1, len(users) + 1))
        assert list(answer.missing_user_ids) == [777]
        tied = self.client.batch_get_entries(self.board_id, users, rank_mode=RankMode.COMPETITION)
        assert [entry.rank for entry in tied.entries] == shared
        assert [entry.list_rank for entry in tied.entries] == shared

    def _walk(self, mode: RankMode) -> list[Entry]:
        return list(self.client.iter_entries(self.board_id, page_size=4, rank_mode=mode))

    def _submission(
        self, name: str, user: int, score: int, subscore: int, operator: CoreOperator | None
    ) -> Submission:
        return Submission(
            self.board_id,
            user,
            score,
            subscore=subscore,
            operator=Operator(operator or 0),
            submission_id=name,
        )

    def _submit(
        self, name: str, user: int, score: int, subscore: int, operator: CoreOperator | None
    ) -> None:
        result = self.client.submit_score(
            self.board_id,
            user,
            score,
            subscore=subscore,
            operator=Operator(operator or 0),
            submission_id=name,
            return_rank=True,
        )
        expected = self._expect(name, user, score, subscore, operator)
        self._check(result, expected)
        if user in self.oracle.entries and result.entry is not None:
            assert result.entry.rank == self.oracle.rank(user)

    def _expect(
        self, name: str, user: int, score: int, subscore: int, operator: CoreOperator | None
    ) -> OracleRecord:
        self.sent.append((name, user, score, subscore, operator))
        return self.oracle.submit(user, score, subscore, operator, name)

    def _check(self, result: SubmitResult, expected: OracleRecord) -> None:
        assert result.outcome == Outcome(expected.outcome)
        assert result.first_outcome == Outcome(expected.first_outcome)
        assert result.indexed
        _check_entry(result.entry, expected.entry)
        _check_entry(result.previous_entry, expected.previous)


def _check_entry(actual: Entry | None, expected: OracleEntry | None) -> None:
    assert (actual is None) == (expected is None)
    if actual is not None and expected is not None:
        assert (actual.score, actual.subscore) == (expected.score, expected.subscore)


async def test_any_sequence_gives_what_a_sorted_list_gives(standings: RunningServer) -> None:
    """Retries, duplicates, all operators, both directions, ties and extreme values."""

    def run() -> None:
        with Client(standings.address, timeout_s=30) as client:
            BoardMachine.client = client
            run_state_machine_as_test(  # type: ignore[no-untyped-call]
                BoardMachine,
                settings=settings(
                    max_examples=40,
                    stateful_step_count=20,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )

    await asyncio.to_thread(run)
