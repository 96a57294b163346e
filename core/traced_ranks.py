"""Shared reads of ranks that are seen in traces.

A read serves all who asked at the same time, of whom a few are traced. Its span is part of the
trace of the first of them and links to the spans of all; theirs link back to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

from core.shared_ranks import Ranks, SharedRanks, Wanted
from core.tracing import SPAN, Span, span_here


class TracedRanks(SharedRanks):
    """SharedRanks that remembers who of those that ask are traced calls."""

    def __init__(self, deadline_s: Callable[[], float | None]) -> None:
        super().__init__(deadline_s)
        self._spans: dict[tuple[Hashable, Wanted], Span] = {}

    async def rank(
        self, kind: Hashable, wanted: Wanted, read: Callable[[Sequence[Wanted]], Awaitable[Ranks]]
    ) -> Ranks:
        """See `SharedRanks.rank`."""

        async def shown(asked: Sequence[Wanted]) -> Ranks:
            with self._shared(kind, asked):
                return await read(asked)

        span = span_here()
        if span is None:
            return await super().rank(kind, wanted, shown)
        key = (kind, wanted)
        self._spans[key] = span
        try:
            return await super().rank(kind, wanted, shown)
        finally:
            self._spans.pop(key, None)

    @contextmanager
    def _shared(self, kind: Hashable, asked: Sequence[Wanted]) -> Iterator[None]:
        """The span of a read that serves traced calls, if it does."""
        found = (self._spans.get((kind, one)) for one in asked) if self._spans else ()
        calls = {span.span_id: span for span in found if span is not None}
        # Of a crowd that serves none, nothing is told, in whosever context it runs.
        span = None
        if calls:
            first = next(iter(calls.values()))
            span = first.child("ranks", {"standings.asked": len(asked)}, links=[*calls.values()])
            for call in calls.values():
                if call is not first:
                    call.link(span)
        before = SPAN.set(span)
        try:
            yield
        except BaseException as error:
            if span is not None:
                span.end(error=type(error).__name__)
            raise
        else:
            if span is not None:
                span.end()
        finally:
            SPAN.reset(before)
