"""Where the audit is kept: in a file of the machine first, in PostgreSQL as soon as it is up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from core.audit_lines import Action, AuditLine, Head


class AuditPoint(NamedTuple):
    """Where an event stands among all: by its time, then its chain, then its number."""

    time: str
    chain: str
    sequence: int


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events are asked for; what is empty admits all. Times are texts of the audit's lines;
    `since` is inclusive, `until` is not.
    """

    since: str = ""
    until: str = ""
    actor: str = ""
    method: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """An action and what became of it; `outcome` None where that is not known."""

    action: AuditLine
    outcome: AuditLine | None

    @property
    def point(self) -> AuditPoint:
        """Its place."""
        return AuditPoint(self.action.time, self.action.chain, self.action.sequence)


class AuditReads(Protocol):
    """Where events can be read."""

    async def page(
        self, wanted: AuditFilter, *, before: AuditPoint | None, limit: int
    ) -> Sequence[AuditEvent]:
        """Up to `limit` events, newest first, from behind a place on. Raises Unavailable."""


class AuditTrail(Protocol):
    """Where actions are recorded. The lines of all workers of a machine are one chain."""

    async def begin(self, action: Action) -> int:
        """Records an action that is about to be done, and returns its number. It is on the disk
        then, whatever becomes of this process. Raises AuditUnavailable, and then it must not be
        done.
        """

    async def end(self, sequence: int, status: str, result: Mapping[str, Any]) -> None:
        """Records what became of an action. Raises AuditUnavailable."""


class AuditFile(AuditTrail, AuditReads, Protocol):
    """The machine's own lines. Each method raises AuditUnavailable."""

    async def head(self) -> Head | None:
        """The end of the machine's chain; None before its first line."""

    async def lines_after(self, sequence: int, *, limit: int) -> Sequence[AuditLine]:
        """The first lines behind a number, in order, as far as their hashes are right; behind 0,
        the oldest that there still are.
        """


class AuditArchive(AuditReads, Protocol):
    """The lines of all machines. Each method raises LedgerUnavailable, QueueFull, WriteConflict."""

    async def heads(self) -> Sequence[Head]:
        """The end of every chain, by name."""

    async def head(self, chain: str) -> Head | None:
        """The end of one chain; None where nothing of it has come yet."""

    async def store(self, lines: Sequence[AuditLine]) -> None:
        """Takes lines in. One whose place in its chain is taken is left out."""

    async def lines(self, chain: str, *, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """The first lines of a chain behind a number, each with its own, in order, as they were
        taken in.
        """
