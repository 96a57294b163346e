"""A batcher whose flushes are seen in traces.

A flush serves many calls, of which a few are traced. Its span is part of the trace of the first of
them and links to the spans of all; theirs link back to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Final

from core.batching import Settled, SubmissionBatcher, WriteObserver
from core.board_directory import BoardDirectory
from core.errors import StandingsError
from core.flushes import Flush, FlushResult
from core.ports import Index, Ledger
from core.tracing import SPAN, Span, span_here
from core.types import Board, IndexChange, Recorded, Standing, Submission

_FLUSH: Final[ContextVar[Span | None]] = ContextVar("flush_span", default=None)
"""The span of the flush that runs here: each has a task and a context of its own."""


class TracedBatcher(SubmissionBatcher):
    """A SubmissionBatcher that remembers which submissions are those of traced calls."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        index: Index,
        boards: BoardDirectory,
        observer: WriteObserver,
        deadline_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._spans: dict[str, Span] = {}
        super().__init__(
            ledger=_TracedLedger(ledger, self._spans),
            index=index,
            boards=boards,
            observer=_TracedWrites(observer),
            deadline_s=deadline_s,
        )

    def enqueue(
        self, submissions: Sequence[tuple[Submission, Board]], *, source: Hashable
    ) -> asyncio.Future[list[Settled | StandingsError]]:
        """See `SubmissionBatcher.enqueue`."""
        settled = super().enqueue(submissions, source=source)
        span = span_here()
        if span is not None:
            # A flush is sealed at the end of this turn of the loop at the earliest.
            ids = [submission.submission_id for submission, _ in submissions]
            self._spans.update(dict.fromkeys(ids, span))
            settled.add_done_callback(lambda _: self._forget(ids))
        return settled

    def _forget(self, ids: Iterable[str]) -> None:
        for submission_id in ids:
            self._spans.pop(submission_id, None)


class _TracedLedger:
    """A ledger that begins the span of a flush; `spans` are those of calls, by submission id."""

    def __init__(self, ledger: Ledger, spans: Mapping[str, Span]) -> None:
        self._ledger = ledger
        self._spans = spans

    def require(self) -> None:
        """See `Ledger.require`."""
        self._ledger.require()

    async def record(
        self, flush: Flush, arrived: Callable[[], object] = lambda: None
    ) -> FlushResult:
        """See `Ledger.record`."""
        span = _FLUSH.get()
        if span is None:
            # One that a changed board sends again is in it already.
            span = self._begin(flush)
        if span is None:
            return await self._ledger.record(flush, arrived)
        part = span.child("ledger record", {"db.system.name": "postgresql"}, remote=True)
        try:
            result = await self._ledger.record(flush, arrived)
        except BaseException as error:
            part.end(error=type(error).__name__)
            span.end(error=type(error).__name__)
            raise
        part.end()
        return result

    async def standings(
        self, season_number: int, user_ids: Sequence[int]
    ) -> Mapping[int, Standing]:
        """See `Ledger.standings`."""
        return await self._ledger.standings(season_number, user_ids)

    def _begin(self, flush: Flush) -> Span | None:
        if not self._spans:
            return None
        found = (self._spans.get(item.submission.submission_id) for item in flush.placed)
        calls = {span.span_id: span for span in found if span is not None}
        if not calls:
            return None
        first = next(iter(calls.values()))
        attributes = {"standings.flush.submissions": len(flush.placed)}
        span = first.child("flush", attributes, links=list(calls.values()))
        for call in calls.values():
            if call is not first:
                call.link(span)
        _FLUSH.set(span)
        # What the index is asked from here on is asked for the flush.
        SPAN.set(span)
        return span


class _TracedWrites:
    """Ends the span of a flush: when the index has its changes, and before its callers hear."""

    def __init__(self, observer: WriteObserver) -> None:
        self._observer = observer

    def flushed(
        self,
        writes: Iterable[tuple[Board, Recorded]],
        changes: Iterable[IndexChange],
        missed: Collection[tuple[int, int]],
    ) -> None:
        """See `WriteObserver.flushed`."""
        span = _FLUSH.get()
        if span is not None:
            span.note("standings.flush.seasons_missed", len({season for season, _ in missed}))
            span.end()
        self._observer.flushed(writes, changes, missed)
