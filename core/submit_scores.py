"""The story of a score: looked up, recorded, indexed, answered."""

from __future__ import annotations

from collections.abc import Awaitable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.batching import Settled, SubmissionBatcher
from core.errors import StandingsError, Unavailable
from core.ordering import KEY_BYTES
from core.ports import Freshness
from core.reading import Question, Reading
from core.tokens import merge_writes
from core.types import Board, Outcome, RankMode, Submission, SubmitResult, shard_of


@dataclass(frozen=True, slots=True)
class SubmitResults:
    """A result for each submission, in order; the token stands for all that were recorded."""

    results: Sequence[SubmitResult | StandingsError]
    consistency_token: str


@dataclass(slots=True)
class _Asked:
    """A submission on its way through the call: what it is, and what became of it so far."""

    submission: Submission
    board: Board
    settled: Settled | StandingsError | None = None
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class SubmitScores:
    """Answers SubmitScore, BatchSubmitScores and each message of StreamSubmitScores."""

    reading: Reading
    batcher: SubmissionBatcher

    async def __call__(self, submissions: Sequence[Submission | StandingsError]) -> SubmitResults:
        """Records submissions; an error given in place of one comes back in its place.

        Cost: two round trips to PostgreSQL and one to the index, shared with whatever else is
        submitted at the moment. Raises QueueFull, and then none of them was taken.
        """
        return await (await self.enqueue(submissions, source=object()))

    async def enqueue(
        self, submissions: Sequence[Submission | StandingsError], *, source: Hashable
    ) -> Awaitable[SubmitResults]:
        """Takes submissions in and returns when they have their place in line.

        Await what it returns to learn what became of them. Submissions of one `source` arrive in
        the order of the calls, if each call is awaited before the next.
        """
        entries = await self._look_up(submissions)
        asked = [entry for entry in entries if isinstance(entry, _Asked)]
        settled = self.batcher.enqueue(
            [(entry.submission, entry.board) for entry in asked], source=source
        )
        return self._answer(entries, asked, settled)

    async def _look_up(
        self, submissions: Sequence[Submission | StandingsError]
    ) -> Sequence[_Asked | StandingsError]:
        """The submissions with their boards, or why there is none."""
        boards: dict[str, Board | StandingsError] = {}
        entries: list[_Asked | StandingsError] = []
        for submission in submissions:
            if isinstance(submission, StandingsError):
                entries.append(submission)
                continue
            board = boards.get(submission.board_id)
            if board is None:
                board = boards[submission.board_id] = await self._board(submission.board_id)
            entries.append(
                board if isinstance(board, StandingsError) else _Asked(submission, board)
            )
        return entries

    async def _board(self, board_id: str) -> Board | StandingsError:
        try:
            return await self.reading.boards.get(board_id)
        except StandingsError as error:
            return error

    async def _answer(
        self,
        entries: Sequence[_Asked | StandingsError],
        asked: Sequence[_Asked],
        settled: Awaitable[Sequence[Settled | StandingsError]],
    ) -> SubmitResults:
        for entry, outcome in zip(asked, await settled, strict=True):
            entry.settled = outcome
        recorded = [entry for entry in asked if isinstance(entry.settled, Settled)]
        await self._fill_ranks([entry for entry in recorded if entry.submission.return_rank])
        results = [
            entry if isinstance(entry, StandingsError) else await self._result(entry)
            for entry in entries
        ]
        return SubmitResults(results, self._token(recorded))

    async def _result(self, entry: _Asked) -> SubmitResult | StandingsError:
        settled = entry.settled
        if not isinstance(settled, Settled):
            return settled if settled is not None else Unavailable()
        indexed = settled.indexed
        if settled.recorded.outcome is Outcome.DUPLICATE and settled.recorded.touches_index:
            indexed = await self._shows(entry, settled)
        return SubmitResult(settled.recorded, indexed=indexed, rank=entry.rank)

    async def _shows(self, entry: _Asked, settled: Settled) -> bool:
        """Whether the index has a transaction of the past. Costs a round trip."""
        try:
            await self.reading.index.users(
                settled.recorded.season.number,
                [entry.submission.user_id],
                cutoff_bytes=KEY_BYTES,
                fresh=Freshness(_shard_xids([entry])),
            )
        except Unavailable:
            return False
        return True

    async def _fill_ranks(self, entries: Iterable[_Asked]) -> None:
        """The rank of each entry now. The writes stand whether or not their ranks are known."""
        by_board: dict[int, list[_Asked]] = {}
        for entry in entries:
            by_board.setdefault(entry.board.number, []).append(entry)
        for group in by_board.values():
            question = Question(
                board=group[0].board,
                season=group[0].board.season,
                fresh=Freshness(_shard_xids(group)),
                as_of_ms=self.reading.clock.now_ms(),
            )
            user_ids = list({entry.submission.user_id for entry in group})
            try:
                ranks, _ = await self.reading.rank(question, user_ids, RankMode.ORDINAL)
            except StandingsError:
                continue
            for entry in group:
                if entry.submission.user_id in ranks:
                    entry.rank = ranks[entry.submission.user_id][1]

    def _token(self, recorded: Iterable[_Asked]) -> str:
        return self.reading.signer.consistency(
            merge_writes(
                (settled.recorded.season.number, settled.recorded.xid, shard_of(user_id))
                for entry in recorded
                if isinstance(settled := entry.settled, Settled)
                and settled.recorded.touches_index
                and (user_id := entry.submission.user_id)
            )
        )


def _shard_xids(entries: Iterable[_Asked]) -> Mapping[int, tuple[int, ...]]:
    """For each shard, the transactions of these submissions that it has to show."""
    xids: dict[int, set[int]] = {}
    for entry in entries:
        if isinstance(entry.settled, Settled) and entry.settled.recorded.touches_index:
            shard = shard_of(entry.submission.user_id)
            xids.setdefault(shard, set()).add(entry.settled.recorded.xid)
    return {shard: tuple(ids) for shard, ids in xids.items()}
