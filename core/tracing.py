"""Spans: what a traced call did, and when. Who records them stands behind these ports.

Only some calls are traced. One that is not has no span, and nothing is done for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Final, Protocol

Attributes = Mapping[str, str | int | bool]


class Span(Protocol):
    """A piece of work of a traced call. No method waits or raises."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, the same for all spans of a trace."""

    @property
    def span_id(self) -> str:
        """16 hexadecimal digits."""

    @property
    def open(self) -> bool:
        """Whether it has not ended."""

    def child(
        self,
        name: str,
        attributes: Attributes,
        *,
        links: Sequence[Span] = (),
        ago_s: float = 0.0,
        remote: bool = False,
    ) -> Span:
        """A piece of this work that began `ago_s` ago; `remote`: another server does it. `links`:
        whom it serves as well.
        """

    def link(self, other: Span) -> None:
        """Points to work that was done elsewhere for this span."""

    def note(self, name: str, value: str | int) -> None:
        """Adds an attribute."""

    def end(self, *, error: str = "", took_s: float | None = None) -> None:
        """Ends it now, or `took_s` after its begin; `error` names what it failed by."""


class Tracer(Protocol):
    """Decides which calls are traced."""

    def begin(self, method: str, metadata: Mapping[str, str | bytes]) -> Span | None:
        """The span of a call that came with this metadata; None where it is not traced."""


SPAN: Final[ContextVar[Span | None]] = ContextVar("span", default=None)
"""Whatever runs here is done for this span."""


def span_here() -> Span | None:
    """The span that is worked for; None without one, and where a task has outlived it."""
    span = SPAN.get()
    return span if span is not None and span.open else None
