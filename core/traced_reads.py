"""Shared reads that are seen in traces.

A read serves all who asked at the same time, of whom a few are traced. Its span is part of the
trace of the first of them and links to the spans of all; theirs link back to it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from core.shared_reads import ReadTogether, SharedReads
from core.tracing import SPAN, Span, span_here

_Item = TypeVar("_Item", bound=Hashable)
_Answer = TypeVar("_Answer")


class TracedReads(SharedReads[_Item, _Answer]):
    """SharedReads that remembers who of those that ask are traced calls."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - as its parent's
        super().__init__(*arguments, **options)
        self._spans: dict[tuple[Hashable, _Item], Span] = {}

    async def answer(
        self, kind: Hashable, item: _Item, read: ReadTogether[_Item, _Answer]
    ) -> _Answer:
        """See `SharedReads.answer`."""

        async def shown(asked: Sequence[_Item]) -> _Answer:
            with self._shared(kind, asked):
                return await read(asked)

        span = span_here()
        if span is None:
            return await super().answer(kind, item, shown)
        key = (kind, item)
        self._spans[key] = span
        try:
            return await super().answer(kind, item, shown)
        finally:
            self._spans.pop(key, None)

    @contextmanager
    def _shared(self, kind: Hashable, asked: Sequence[_Item]) -> Iterator[None]:
        """The span of a read that serves traced calls, if it does."""
        found = (self._spans.get((kind, one)) for one in asked) if self._spans else ()
        calls = {span.span_id: span for span in found if span is not None}
        # Of a crowd that serves none, nothing is told, in whosever context it runs.
        span = None
        if calls:
            first = next(iter(calls.values()))
            span = first.child(self.name, {"standings.asked": len(asked)}, links=[*calls.values()])
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
