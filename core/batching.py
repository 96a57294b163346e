"""Natural batching: submissions of concurrent calls share a transaction.

Nothing waits for a batch to fill. While two flushes are on their way, what arrives meanwhile makes
up the next one; a lone submission goes at once. The rules of PROTOCOL P1 and P2:

- a flush takes its arrival number when it is sealed, flushes in the order of their sealing;
- a (board, user) or a submission id that is on its way is not put into a second flush;
- what is left behind holds back all that its source sent after it, so that a stream arrives in
  its own order.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final

from core.board_directory import BoardDirectory
from core.errors import BoardChanged, QueueFull, StandingsError
from core.ports import Flush, FlushResult, Index, Ledger, Placed
from core.types import Board, Recorded, Submission, shard_of

FLUSH_SIZE_MAX: Final = 512
"""Places are 10 bits of the arrival; beyond 500 rows a larger batch is no cheaper per row."""
_FLUSHES_MAX: Final = 2
"""One in flight gives 55 to 70 % of two; four give no more, at three times the p99."""
_WAVES_MAX: Final = 8
"""Submissions of one (board, user) in a flush: each one more is a statement more."""
_UNSETTLED_MAX: Final = 16_384
"""Submissions a worker holds before it refuses more: half a second of work at full speed."""
_LOOKUPS_MAX: Final = 3
"""How often a flush looks up a board that changes under it."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A recorded submission and whether the index shows it."""

    recorded: Recorded
    indexed: bool


@dataclass(slots=True)
class _Call:
    """Submissions that are answered together."""

    settled: asyncio.Future[list[Settled | StandingsError]]
    results: list[Settled | StandingsError | None]
    remaining: int


@dataclass(slots=True)
class _Waiting:
    submission: Submission
    board: Board
    key: tuple[int, int]
    call: _Call
    position: int


@dataclass(slots=True)
class _Sealed:
    """A flush: its submissions in order, how often each user stands in it, and its ids."""

    items: list[_Waiting] = field(default_factory=list)
    keys: Counter[tuple[int, int]] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)


class SubmissionBatcher:
    """Brings submissions to the ledger in flushes, and from there to the index."""

    def __init__(self, *, ledger: Ledger, index: Index, boards: BoardDirectory) -> None:
        self._ledger = ledger
        self._index = index
        self._boards = boards
        # One line a source: where its first one cannot go, the others need not be looked at.
        self._lines: dict[Hashable, deque[_Waiting]] = {}
        self._keys_in_flight: set[tuple[int, int]] = set()
        self._ids_in_flight: set[str] = set()
        self._flushes = 0
        self._unsettled = 0
        self._kick_scheduled = False
        self._sealing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def enqueue(
        self, submissions: Sequence[tuple[Submission, Board]], *, source: Hashable
    ) -> asyncio.Future[list[Settled | StandingsError]]:
        """Takes submissions in, all or none; the future gives a result for each, in order.

        Dropping the future changes nothing: what was taken in is recorded. Submissions of one
        `source` arrive in the order of the calls. Raises QueueFull.
        """
        if self._unsettled + len(submissions) > _UNSETTLED_MAX:
            raise QueueFull
        loop = asyncio.get_running_loop()
        call = _Call(loop.create_future(), [None] * len(submissions), len(submissions))
        if not submissions:
            call.settled.set_result([])
            return call.settled
        line = self._lines.setdefault(source, deque())
        for position, (submission, board) in enumerate(submissions):
            key = (board.number, submission.user_id)
            line.append(_Waiting(submission, board, key, call, position))
        self._unsettled += len(submissions)
        if not self._kick_scheduled:
            # At the end of this turn of the loop, so that calls that came in together go together.
            self._kick_scheduled = True
            loop.call_soon(self._kick)
        return call.settled

    async def drain(self) -> None:
        """Returns when everything taken in so far is settled."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _kick(self) -> None:
        self._kick_scheduled = False
        while self._lines and self._flushes < _FLUSHES_MAX:
            sealed = self._seal()
            if not sealed.items:
                return
            self._flushes += 1
            task = asyncio.create_task(self._flush(sealed))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _seal(self) -> _Sealed:
        """Takes what may go now: from each source in turn, in its order."""
        sealed = _Sealed()
        for source, line in list(self._lines.items()):
            while line and len(sealed.items) < FLUSH_SIZE_MAX and self._may_go(line[0], sealed):
                item = line.popleft()
                sealed.items.append(item)
                sealed.keys[item.key] += 1
                sealed.ids.add(item.submission.submission_id)
            del self._lines[source]
            if line:
                # To the end, so that a long line does not keep the others waiting.
                self._lines[source] = line
            if len(sealed.items) == FLUSH_SIZE_MAX:
                break
        self._keys_in_flight |= sealed.keys.keys()
        self._ids_in_flight |= sealed.ids
        return sealed

    def _may_go(self, item: _Waiting, sealed: _Sealed) -> bool:
        submission_id = item.submission.submission_id
        return (
            item.key not in self._keys_in_flight
            and sealed.keys[item.key] < _WAVES_MAX
            and submission_id not in self._ids_in_flight
            and submission_id not in sealed.ids
        )

    async def _flush(self, sealed: _Sealed) -> None:
        try:
            result = await self._record(sealed)
        except Exception as error:  # noqa: BLE001 - a bug; the calls tell it, none waits for ever
            for item in sealed.items:
                self._break(item, error)
            return
        finally:
            self._release(sealed)
        # The next flush is on its way already; these callers wait for the index as well.
        missed: set[tuple[int, int]] = set()
        for xid, changes in result.changes.items():
            missed |= await self._index.apply(xid, changes)
        for place, item in enumerate(sealed.items):
            outcome = result.results[place]
            if isinstance(outcome, Recorded):
                shard = (outcome.season.number, shard_of(item.submission.user_id))
                self._settle(item, Settled(outcome, indexed=shard not in missed))
            else:
                self._settle(item, outcome)

    async def _record(self, sealed: _Sealed) -> FlushResult:
        """Records a flush; submissions whose board changed on the way go again with the new
        definition and in their old places, before anything behind them can overtake.
        """
        placed = [
            Placed(item.submission, item.board, place) for place, item in enumerate(sealed.items)
        ]
        try:
            # Held over the round trip: sequence values must come in the order of sealing.
            async with self._sealing:
                arrival = await self._ledger.next_arrival()
        except StandingsError as error:
            return FlushResult(dict.fromkeys(range(len(placed)), error))
        result = FlushResult()
        for _ in range(_LOOKUPS_MAX):
            try:
                recorded = await self._ledger.record(Flush(arrival, placed))
            except StandingsError as error:
                recorded = FlushResult({item.place: error for item in placed})
            result.results |= recorded.results
            for xid, changes in recorded.changes.items():
                result.changes.setdefault(xid, []).extend(changes)
            placed = [p for p in placed if isinstance(result.results[p.place], BoardChanged)]
            if not placed:
                break
            placed = await self._look_up(placed, result)
        return result

    async def _look_up(self, placed: Sequence[Placed], result: FlushResult) -> list[Placed]:
        """The submissions with their boards as they are now; without those whose board is gone."""
        found = []
        for item in placed:
            try:
                board = await self._boards.reload(item.submission.board_id)
            except StandingsError as error:
                result.results[item.place] = error
            else:
                found.append(Placed(item.submission, board, item.place))
        return found

    def _release(self, sealed: _Sealed) -> None:
        self._keys_in_flight -= sealed.keys.keys()
        self._ids_in_flight -= sealed.ids
        self._flushes -= 1
        self._kick()

    def _settle(self, item: _Waiting, result: Settled | StandingsError) -> None:
        self._unsettled -= 1
        call = item.call
        call.results[item.position] = result
        call.remaining -= 1
        if call.remaining == 0 and not call.settled.done():
            call.settled.set_result([entry for entry in call.results if entry is not None])

    def _break(self, item: _Waiting, error: Exception) -> None:
        self._unsettled -= 1
        if not item.call.settled.done():
            item.call.settled.set_exception(error)
            # Its caller may be gone; looking keeps asyncio from logging it for everybody.
            item.call.settled.exception()
