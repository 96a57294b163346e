"""The audit, put together: the machine's files first, PostgreSQL behind them."""

from __future__ import annotations

from dataclasses import dataclass

from bootstrap.audit_files import AuditFiles
from bootstrap.settings import Settings
from core.audit_ports import AuditTrail
from core.clock import SystemClock
from core.list_audit_events import ListAuditEvents
from core.ship_audit import ShipAudit
from core.tokens import TokenSigner
from storage.audit import PostgresAudit
from storage.pool import Pool


@dataclass(frozen=True, slots=True)
class Audit:
    """Where actions are recorded, how they are listed, and what brings them to PostgreSQL."""

    trail: AuditTrail
    list_events: ListAuditEvents
    ship: ShipAudit


def make_audit(settings: Settings, jobs: Pool, signer: TokenSigner) -> Audit:
    """The audit of a process. What it asks of PostgreSQL goes by the connections of the jobs."""
    files = audit_files_of(settings)
    archive = PostgresAudit(jobs)
    return Audit(files, ListAuditEvents(files, archive, signer), ShipAudit(files, archive))


def audit_files_of(settings: Settings) -> AuditFiles:
    """The files of this machine."""
    return AuditFiles(
        settings.audit_directory, SystemClock(), file_bytes_max=settings.audit.file_bytes_max
    )
