"""An audit in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.audit_lines import (
    Action,
    AuditLine,
    Head,
    LineKind,
    action_content,
    next_line,
    outcome_content,
)
from core.audit_ports import AuditEvent, AuditFilter, AuditPoint


class MemoryAudit:
    """The `AuditFile` and the `AuditArchive` port over a list. `error` is what each call raises;
    `asked` has a word for each page that was read.
    """

    def __init__(self, chain: str = "a" * 32) -> None:
        self.chain = chain
        self.written: list[AuditLine] = []
        self.error: Exception | None = None
        self.asked: list[str] = []

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """Method, target and status of all actions, in order; "" where there is no outcome."""
        return [
            (
                event.action.content["method"].rpartition("/")[2],
                event.action.content["target"],
                "" if event.outcome is None else event.outcome.content["status"],
            )
            for event in reversed(self._events())
        ]

    async def begin(self, action: Action) -> int:
        """Records one."""
        return self._append(action_content(action))

    async def end(self, sequence: int, status: str, result: Mapping[str, Any]) -> None:
        """Records what became of it."""
        self._append(outcome_content(sequence, status, result))

    async def head(self, chain: str = "") -> Head | None:
        """The end, of this chain if one is named."""
        self._may()
        known = self.written and chain in ("", self.chain)
        return self.written[-1].head if known else None

    async def heads(self) -> Sequence[Head]:
        """The only one."""
        self._may()
        return [line.head for line in self.written[-1:]]

    async def lines_after(self, sequence: int, *, limit: int) -> Sequence[AuditLine]:
        """Some."""
        self._may()
        return [line for line in self.written if line.sequence > sequence][:limit]

    async def store(self, lines: Sequence[AuditLine]) -> None:
        """Takes them in."""
        self._may()
        self.chain = lines[0].chain
        known = {line.sequence for line in self.written}
        self.written += [line for line in lines if line.sequence not in known]

    async def lines(self, chain: str, *, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Some."""
        return [(line.sequence, line.data) for line in await self.lines_after(after, limit=limit)]

    async def page(
        self, wanted: AuditFilter, *, before: AuditPoint | None, limit: int
    ) -> Sequence[AuditEvent]:
        """Newest first; filtered by actor alone."""
        self.asked.append("page")
        self._may()
        return [
            event
            for event in self._events()
            if (before is None or event.point < before)
            and wanted.actor in ("", event.action.content["actor"])
        ][:limit]

    def _events(self) -> list[AuditEvent]:
        outcomes = {
            line.content["action"]: line for line in self.written if line.kind is LineKind.OUTCOME
        }
        return [
            AuditEvent(line, outcomes.get(line.sequence))
            for line in reversed(self.written)
            if line.kind is LineKind.ACTION
        ]

    def _append(self, content: Mapping[str, Any]) -> int:
        self._may()
        head = self.written[-1].head if self.written else Head(self.chain)
        line = next_line(head, content, 1_700_000_000_000 + head.sequence)
        self.written.append(line)
        return line.sequence

    def _may(self) -> None:
        if self.error is not None:
            raise self.error
