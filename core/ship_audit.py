"""Brings the lines of a machine's audit to PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from core.audit_lines import GENESIS, Head
from core.audit_ports import AuditArchive, AuditFile
from core.errors import AuditBroken

_LINES_A_STATEMENT: Final = 200


@dataclass(slots=True)
class ShipAudit:
    """Copies what PostgreSQL lacks. It says itself where it is, so nothing is lost or doubled
    wherever this ends.
    """

    file: AuditFile
    archive: AuditArchive
    _told: Head | None = field(default=None, init=False)
    """The end of the machine's chain when all of it was there."""
    unshipped_count: int = field(default=0, init=False)
    """Lines that PostgreSQL lacks, as far as the last call knew."""

    async def __call__(self) -> int:
        """Copies until nothing is left; how many lines that were. Costs a look at the file where
        nothing is new. Raises AuditUnavailable, LedgerUnavailable, and AuditBroken where the
        machine's lines do not go on from PostgreSQL's.
        """
        end = await self.file.head()
        if end is None or end == self._told:
            return 0
        self.unshipped_count = max(1, end.sequence - (self._told.sequence if self._told else 0))
        head = await self.archive.head(end.chain) or Head(end.chain)
        await self._check(head, end)
        count = 0
        while head.sequence < end.sequence:
            lines = await self.file.lines_after(head.sequence, limit=_LINES_A_STATEMENT)
            known = head
            for line in lines:
                if known.hash not in (GENESIS, line.previous):
                    raise AuditBroken
                known = line.head
            if known == head:
                raise AuditBroken
            await self.archive.store(lines)
            count += len(lines)
            head = known
        self._told = head
        self.unshipped_count = 0
        return count

    async def _check(self, head: Head, end: Head) -> None:
        """Whether what PostgreSQL has last is here, too. It may not be any more, where old files
        were removed: then the next line says what it was.
        """
        if head.sequence > end.sequence:
            raise AuditBroken
        if head.sequence:
            lines = await self.file.lines_after(head.sequence - 1, limit=1)
            if not lines or (lines[0].sequence == head.sequence and lines[0].hash != head.hash):
                raise AuditBroken
