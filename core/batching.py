"""Natural batching: submissions of concurrent calls share a transaction.

Until a flush is answered, what arrives meanwhile makes up the next one, which goes beside it once
it is as large; a lone submission goes at once. Nothing waits for a batch to fill, but right after a
crowd of calls the next ones wait some ms for each other. The rules of PROTOCOL P1 and P2:

- a flush takes its arrival number when it is sealed, flushes in the order of their sealing;
- a (board, user) or a submission id that is on its way is not put into a second flush;
- what has to wait holds back all that its source sent after it, so that a stream arrives in its
  own order.

Under more load than there is room for, what has waited longest would be recorded just too late for
its callers, again and again. So whoever's time ends before a flush would be back is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import Final, Protocol

from core.board_directory import BoardDirectory
from core.errors import (
    BoardChanged,
    BoardNotFound,
    LedgerUnavailable,
    QueueFull,
    StandingsError,
)
from core.flushes import Flush, FlushResult, Placed
from core.lull import Lull
from core.pace import Pace
from core.ports import Index, Ledger
from core.types import Board, IndexChange, Recorded, Submission, shard_of
from core.values import value
from core.waiting_lines import Sealed, WaitingLines

_log = logging.getLogger(__name__)

_FLUSHES_MAX: Final = 2
"""On their way to the ledger. One gives 55 to 70 % of two; four give no more, at three times the
p99."""
_WORTH_A_FLUSH: Final = 64
"""Until all flushes are answered, the next is sealed once it is as large as they are, or as this:
what a flush costs whatever its size is more than 30 submissions cost besides."""
_UNSETTLED_MAX: Final = 16_384
"""Submissions a worker holds before it refuses more: half a second of work at full speed."""
_REST_MAX_S: Final = 0.025
"""How long calls that come right after a crowd wait for others at most."""
_LATE: Final = 2
"""A flush that takes so many times as long as usual is late."""
_LOOKUPS_MAX: Final = 8
"""How often a flush looks up boards that change under it."""


@value
class Settled:
    """A recorded submission and whether the index shows it."""

    recorded: Recorded
    indexed: bool


class WriteObserver(Protocol):
    """Who has to know of every write of this worker."""

    def flushed(
        self,
        writes: Iterable[tuple[Board, Recorded]],
        changes: Iterable[IndexChange],
        missed: Collection[tuple[int, int]],
    ) -> None:
        """What a flush recorded, each with its board, and the (season, shard) pairs that missed
        some of its changes. Called after the index took the changes, or missed them, and before
        any of the callers is answered. Must not raise.
        """


@dataclass(slots=True)
class _Call:
    """Submissions that are answered together."""

    settled: asyncio.Future[list[Settled | StandingsError]]
    results: list[Settled | StandingsError | None]
    remaining: int
    end_s: float
    """When its caller's time is over, by the loop's clock."""


@dataclass(slots=True)
class _FlushPace(Pace):
    """And when a flush that is sealed now would be back."""

    back_s: float = 0.0
    sealed_s: float = 0.0

    def look(self, now_s: float, *, busy: bool) -> None:
        """A flush is about to be sealed. While none is on its way the past says little, and there
        is nothing better to do than to try.
        """
        self.back_s = now_s + self.took_s if busy else now_s
        self.sealed_s = now_s

    def late(self, now_s: float) -> bool:
        """Whether the flush that was sealed last should have been back."""
        return now_s - self.sealed_s > _LATE * self.took_s


@dataclass(slots=True)
class _Waiting:
    """A submission in line. The key names the board by its id: a board that is deleted and made
    again on the way is another one, but its users are not to overtake themselves either.
    """

    submission: Submission
    board: Board
    key: tuple[str, int]
    submission_id: str
    call: _Call
    position: int
    pace: _FlushPace

    @property
    def gone(self) -> bool:
        """Whether its caller has given up, or will have when it is back."""
        return self.call.settled.cancelled() or self.call.end_s < self.pace.back_s


class SubmissionBatcher:
    """Brings submissions to the ledger in flushes, and from there to the index. `deadline_s` tells
    when the time of the caller is over, by the loop's clock; None: never.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        index: Index,
        boards: BoardDirectory,
        observer: WriteObserver,
        deadline_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._index = index
        self._boards = boards
        self._observer = observer
        self._deadline_s = deadline_s
        self._pace = _FlushPace(_REST_MAX_S)
        self._lines: WaitingLines[_Waiting] = WaitingLines()
        self._flushes = 0
        self._away = 0
        self._unsettled = 0
        self._lull = Lull(self._kick, rest_s=self._pace.rest_s, anew=True)
        self._sealing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def unsettled(self) -> int:
        """Submissions that were taken in and not yet answered."""
        return self._unsettled

    def enqueue(
        self, submissions: Sequence[tuple[Submission, Board]], *, source: Hashable
    ) -> asyncio.Future[list[Settled | StandingsError]]:
        """Takes submissions in, all or none; the future gives a result for each, in order.

        Cancelling the future takes out of the line what is not on its way yet: nothing was promised
        for it, and nobody waits. What could not be answered in the caller's time is given
        QueueFull. Submissions of one `source` arrive in the order of the calls. Raises QueueFull.
        """
        if self._unsettled + len(submissions) > _UNSETTLED_MAX:
            raise QueueFull
        loop = asyncio.get_running_loop()
        end_s = self._deadline_s()
        call = _Call(
            loop.create_future(),
            [None] * len(submissions),
            len(submissions),
            inf if end_s is None else end_s,
        )
        if not submissions:
            call.settled.set_result([])
            return call.settled
        try:
            self._ledger.require()
        except LedgerUnavailable as error:
            # Behind flushes that are stuck they would wait only to be told the same.
            call.settled.set_result([error] * len(submissions))
            return call.settled
        self._lines.add(
            source,
            [
                _Waiting(
                    submission,
                    board,
                    (submission.board_id, submission.user_id),
                    submission.submission_id,
                    call,
                    position,
                    self._pace,
                )
                for position, (submission, board) in enumerate(submissions)
            ],
        )
        self._unsettled += len(submissions)
        # Calls that come in together go together.
        self._lull.come()
        return call.settled

    async def drain(self) -> None:
        """Returns when everything taken in so far is settled."""
        while self._unsettled:
            if self._tasks:
                await asyncio.wait(self._tasks)
            else:
                # What has just come in goes in a few turns of the loop; after a crowd, in some ms.
                await asyncio.sleep(0)

    def _kick(self) -> None:
        if self._lull.waiting:
            return
        now_s = asyncio.get_running_loop().time()
        while self._flushes < _FLUSHES_MAX and self._worth(now_s):
            self._pace.look(now_s, busy=self._flushes > 0)
            sealed = self._lines.seal()
            for item in sealed.gone:
                self._settle(item, QueueFull())
            if not sealed.items:
                return
            self._flushes += 1
            self._away += len(sealed.items)
            calls = self._lull.went()
            # In a context of its own: it must not end with the deadline of one of its callers.
            task = asyncio.create_task(self._flush(sealed, calls), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _worth(self, now_s: float) -> bool:
        """Whether what waits is worth a flush of its own; anything is while none is on its way, or
        one is late: the next may not have to wait for what that waits for.
        """
        enough = min(self._away, _WORTH_A_FLUSH)
        return self._lines.waiting_count >= enough or self._pace.late(now_s)

    async def _flush(self, sealed: Sealed[_Waiting], calls: int) -> None:
        await self._carry(sealed)
        self._away -= len(sealed.items)
        self._lull.answered(calls)
        self._kick()

    async def _carry(self, sealed: Sealed[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            result = await self._record_and_release(sealed)
            # The next flush may be on its way already; these callers wait for the index as well.
            missed = await self._apply(result)
            # Not before the apply: core/own_writes.py says why.
            self._observer.flushed(
                _writes(sealed, result),
                chain(*result.changes.values()),
                missed,
            )
        except BaseException as error:
            # A bug, or the end of the process: the calls tell it, and none waits for ever.
            for item in sealed.items:
                self._break(item, error)
            if not isinstance(error, Exception):
                raise
            return
        for place, item in enumerate(sealed.items):
            outcome = result.results[place]
            if isinstance(outcome, StandingsError):
                self._settle(item, outcome)
                continue
            shard = (outcome.season.number, shard_of(item.submission.user_id))
            self._settle(item, Settled(outcome, indexed=shard not in missed))
        self._pace.note(loop.time() - began_s)
        self._lull.rest_s = self._pace.rest_s

    async def _record_and_release(self, sealed: Sealed[_Waiting]) -> FlushResult:
        try:
            result = await self._record(sealed)
        finally:
            self._lines.release(sealed)
            self._flushes -= 1
        # What is worth a flush of its own need not wait for the index to follow.
        self._kick()
        return result

    async def _record(self, sealed: Sealed[_Waiting]) -> FlushResult:
        """Records a flush. Where a board has changed on the way the ledger takes none of that
        transaction, and all of it goes again with the new definition and in the old places, so
        that nothing overtakes.
        """
        placed = [
            Placed(item.submission, item.board, place) for place, item in enumerate(sealed.items)
        ]
        # Arrival numbers must come in the order of sealing.
        await self._sealing.acquire()
        result = await self._ledger.record(Flush(None, placed), self._sealing.release)
        for _ in range(_LOOKUPS_MAX):
            placed = [p for p in placed if isinstance(result.results[p.place], BoardChanged)]
            if not placed:
                break
            placed = await self._look_up(placed, result)
            for item in placed:
                sealed.items[item.place].board = item.board
            recorded = await self._ledger.record(Flush(result.arrival, placed))
            result.add(recorded)
        return result

    async def _look_up(self, placed: Sequence[Placed], result: FlushResult) -> list[Placed]:
        """The submissions with their boards as they are now; without those whose board is gone.
        A board that cannot be looked up stays as it was: it need not be the one that changed.
        """
        boards: dict[str, Board | None] = {item.submission.board_id: item.board for item in placed}
        for board_id in boards:
            try:
                boards[board_id] = await self._boards.reload(board_id)
            except BoardNotFound:
                boards[board_id] = None
            except StandingsError:
                continue
        found = []
        for item in placed:
            board = boards[item.submission.board_id]
            if board is None:
                result.results[item.place] = BoardNotFound()
            else:
                found.append(Placed(item.submission, board, item.place))
        return found

    async def _apply(self, result: FlushResult) -> set[tuple[int, int]]:
        """Makes a flush visible; returns the (season, shard) pairs that missed it."""
        missed: set[tuple[int, int]] = set()
        for xid, changes in result.changes.items():
            try:
                missed |= await self._index.apply(xid, changes)
            except Exception:  # noqa: BLE001 - what is committed is acknowledged all the same
                _log.exception("an apply failed; the healer brings it")
                missed |= {(change.season_number, change.shard) for change in changes}
        return missed

    def _settle(self, item: _Waiting, result: Settled | StandingsError) -> None:
        self._unsettled -= 1
        call = item.call
        call.results[item.position] = result
        call.remaining -= 1
        if call.remaining == 0 and not call.settled.done():
            call.settled.set_result([entry for entry in call.results if entry is not None])

    def _break(self, item: _Waiting, error: BaseException) -> None:
        self._unsettled -= 1
        if not item.call.settled.done():
            item.call.settled.set_exception(
                error if isinstance(error, Exception) else RuntimeError("the flush was ended")
            )
            # Its caller may be gone; looking keeps asyncio from logging it for everybody.
            item.call.settled.exception()


def _writes(sealed: Sealed[_Waiting], result: FlushResult) -> Sequence[tuple[Board, Recorded]]:
    """What a flush recorded, each with the board that it was recorded for."""
    items = sealed.items
    return [
        (items[place].board, outcome)
        for place, outcome in result.results.items()
        if isinstance(outcome, Recorded)
    ]
