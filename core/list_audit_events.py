"""Who did what, and why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from core.audit_ports import AuditArchive, AuditEvent, AuditFile, AuditFilter, AuditPoint
from core.errors import LedgerUnavailable, QueueFull, WriteConflict
from core.tokens import TokenSigner


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Events, newest first. `from_file`: of this machine alone, because PostgreSQL is away."""

    events: Sequence[AuditEvent]
    next_page_token: str
    from_file: bool


@dataclass(frozen=True, slots=True)
class ListAuditEvents:
    """Answers ListAuditEvents."""

    file: AuditFile
    archive: AuditArchive
    signer: TokenSigner

    async def __call__(self, wanted: AuditFilter, *, page_size: int, page_token: str) -> AuditPage:
        """A page of the events of all machines, as PostgreSQL has them; without it those of this
        machine, from its file. A token is good for both. Raises PageTokenInvalid, and
        AuditUnavailable where neither can be read. Cost: one round trip, or a walk through files.
        """
        question = hashlib.sha256(json.dumps(astuple(wanted)).encode()).digest()
        before = None
        if page_token:
            before = AuditPoint(*self.signer.audit_point(page_token, question=question))
        from_file = False
        try:
            found = await self.archive.page(wanted, before=before, limit=page_size + 1)
        except (LedgerUnavailable, QueueFull, WriteConflict):
            from_file = True
            found = await self.file.page(wanted, before=before, limit=page_size + 1)
        token = ""
        if len(found) > page_size:
            last = found[page_size - 1].point
            token = self.signer.audit_page(*last, question=question)
        return AuditPage(found[:page_size], token, from_file)
