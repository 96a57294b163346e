"""All that the listeners can be asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.audit_ports import AuditTrail
from core.batch_get_entries import BatchGetEntries
from core.delete_entry import DeleteEntry
from core.estimate_rank import EstimateRank
from core.first_pages import FirstPages
from core.get_percentile import GetPercentile
from core.hot_entries import HotEntries
from core.index_operations import IndexOperations
from core.list_audit_events import ListAuditEvents
from core.list_entries_around import ListEntriesAround
from core.list_shards import ListShards
from core.manage_boards import ManageBoards
from core.moderate_users import ModerateUsers
from core.submit_scores import SubmitScores
from core.watch_entries import WatchEntries
from server.levers.levers import Levers


@dataclass(frozen=True, slots=True)
class UseCases:
    """The use cases of the core, and the levers. `new_submission_id` makes a UUIDv7 as text."""

    submit_scores: SubmitScores
    get_entry: HotEntries
    batch_get_entries: BatchGetEntries
    list_entries: FirstPages
    list_entries_around: ListEntriesAround
    estimate_rank: EstimateRank
    get_percentile: GetPercentile
    watch_entries: WatchEntries
    delete_entry: DeleteEntry
    moderate_users: ModerateUsers
    manage_boards: ManageBoards
    list_shards: ListShards
    index_operations: IndexOperations
    levers: Levers
    audit: AuditTrail
    list_audit_events: ListAuditEvents
    new_submission_id: Callable[[], str]
